"""Random overrides: one line says what is wrong, or every value is in its range."""

import copy
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from projects.clockdistill.engine import config_file
from projects.clockdistill.engine.checks import check_config
from projects.clockdistill.engine.config_file import ConfigError, leaves, load_config
from projects.clockdistill.engine.data_config import check_batch_size
from projects.clockdistill.engine.expected import expected_of
from tests.fuzzing import fuzz
from tests.tiny_run import PLAIN

SHIPPED = load_config(PLAIN, [])
KEYS = [path for path, _, _ in leaves(SHIPPED)]
ODD = (
    *("null", "", "cpu", "cuda:9", "abc", "1e4", "nan", "-inf", "???", "[]", "{}", "[1,2]"),
    *("{a:1}", "[[", "${", "${train.max_iter}", "${nowhere}", "a,b", "range(1,3)", "~", "~x"),
    *("'a'", '"', "\\", "{_target_: os.getcwd}", "torch.optim.SGD", "a=b", "é 漢 (1)", "00"),
)
VALUES = st.one_of(
    st.integers(-3, 3),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.sampled_from(ODD),
    st.text(max_size=12),
    st.lists(st.integers(-2, 5), max_size=4).map(lambda numbers: str(numbers).replace(" ", "")),
)
ANY_KEY = st.one_of(
    st.sampled_from(KEYS),
    st.sampled_from(KEYS).map(lambda key: key.rpartition(".")[0] or key),
    st.sampled_from(KEYS).map(lambda key: f"{key}x"),
    st.text(max_size=8),
)
OVERRIDES = st.lists(st.tuples(ANY_KEY, VALUES), min_size=1, max_size=3)


def loaded(overrides: list[str]) -> DictConfig:
    """Returns the config with overrides; the file itself is read only once."""
    with mock.patch.object(config_file, "_read", lambda path: copy.deepcopy(SHIPPED)):
        return load_config(PLAIN, overrides)


def checked(overrides: list[tuple[str, Any]]) -> DictConfig:
    cfg = loaded(["train.device=cpu", *(f"{key}={value}" for key, value in overrides)])
    check_config(cfg)
    check_batch_size(cfg, processes=2)
    return cfg


@given(OVERRIDES)
@fuzz(examples=150)
def test_fuzzed_overrides_are_refused_in_one_line_or_are_in_range(overrides) -> None:
    try:
        cfg = checked(overrides)
    except ConfigError as error:
        message = str(error)
        assert message.strip() and "Traceback" not in message
        own = sum(f"{key}{value}".count("\n") for key, value in overrides)
        assert message.count("\n") <= 2 + 3 * own  # a message may repeat what was typed
        return
    for path, node, key in leaves(cfg):
        expected = expected_of(path)
        assert expected is None or expected.holds(node[key]), path
    assert cfg.train.device == "cpu"


PATH = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=20)


@given(PATH)
@fuzz(examples=50)
def test_fuzzed_paths_are_taken_as_they_are_typed(name: str) -> None:
    for key in ("train.output_dir", "train.init_checkpoint"):
        cfg = loaded([f"{key}=/data/{name}/x"])
        assert OmegaConf.select(cfg, key) == f"/data/{name}/x"


@pytest.mark.parametrize("key", ["train.max_iter", "optimizer.lr", "model.num_queries"])
@given(st.one_of(st.integers(-5, 10**6), st.floats()))
@fuzz(examples=20)
def test_fuzzed_numbers_pass_as_the_table_says(key: str, value: float) -> None:
    expected = expected_of(key)
    try:
        cfg = checked([(key, value)])
    except ConfigError as error:
        assert not expected.holds(value), error
    else:
        assert expected.holds(value) and OmegaConf.select(cfg, key) == value
