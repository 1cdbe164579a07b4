"""Tests lookup, overrides and saving of configs."""

import builtins
from pathlib import Path

import pytest
from detectron2.utils.registry import locate
from omegaconf import OmegaConf

from projects.clockdistill.engine.config_file import (
    ConfigError,
    find_config,
    load_config,
    save_config,
)
from tests.tiny_run import DISTILLED, PLAIN


def test_overrides_reach_nested_keys_and_arguments_left_at_their_default() -> None:
    cfg = load_config(
        PLAIN,
        [
            "train.max_iter=3",
            "train.init_checkpoint=torchvision://resnet18",
            "train.output_dir=",
            "train.amp.dtype=float16",
            "model.num_classes=5",
            "optimizer.amsgrad=True",  # the config leaves it at its default
        ],
    )
    assert cfg.train.max_iter == 3
    assert cfg.train.init_checkpoint == "torchvision://resnet18"
    assert cfg.train.output_dir == ""
    assert cfg.model.criterion.num_classes == 5  # tied by interpolation
    assert cfg.optimizer.amsgrad is True


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.max_itr=3", r"unknown config key train\.max_itr; did you mean train\.max_iter\?"),
        ("train.amp.enable=True", r"did you mean train\.amp\.enabled\?"),
        ("optimiser.lr=1", r"unknown config key optimiser\.lr; did you mean optimizer\.lr\?"),
        ("model.dn_numbr=3", r"did you mean model\.dn_number\?"),
        ("model.num_classes.x=1", r"unknown config key model\.num_classes\.x"),
        ("dataloader.train.names=a", r"did you mean dataloader\.train\.dataset\.names\?"),
        ("max_iter=3", r"unknown config key max_iter; did you mean train\.max_iter\?"),
        ("train.max_iter", "Fix: write key=value"),
        ("--resume", "found --resume after key=value"),
    ],
)
def test_unknown_key_ends_with_the_nearest_one(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(PLAIN, [override])


def test_a_detector_s_key_is_meant_for_the_student() -> None:
    with pytest.raises(ConfigError, match=r"did you mean model\.student\.num_classes\?"):
        load_config(DISTILLED, ["model.num_classes=3"])


PATHS = [
    "my data/run (1)",
    "a,b",
    "a=b/c=d",
    "[old] x/[1]",
    "übung/straße",
    "数据/训练",
    'it\'s "here"',
    "50% & #1; {x} $HOME !",
    "20241127",
    "1e5",
    "true",
    "range(1,3)",
    "int(3)",
    "C:\\x",
]


@pytest.mark.parametrize("key", ["train.output_dir", "train.init_checkpoint"])
@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_taken_as_it_is_typed(path: str, key: str) -> None:
    assert OmegaConf.select(load_config(PLAIN, [f"{key}={path}"]), key) == path


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ("dino_r18_custom.py", "dataloader.train.dataset.json_file"),
        ("dino_r18_custom.py", "dataloader.test.dataset.image_root"),
        ("dino_r18_custom.py", "model.teacher_checkpoint"),
        (PLAIN, "dataloader.train.dataset.names"),
        (PLAIN, "train.device"),
    ],
)
def test_every_key_of_text_takes_text(config: str, key: str) -> None:
    for path in ("a,b (1)/x=[2]", "20241127"):
        assert OmegaConf.select(load_config(config, [f"{key}={path}"]), key) == path


def test_home_is_expanded_in_overrides_and_in_files(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "my config (1).yaml").write_text("train: {init_checkpoint: ~/w.pth, files: [~/a]}")
    cfg = load_config("~/my config (1).yaml", ["train.init_checkpoint=~/ü b"])
    assert cfg.train.init_checkpoint == f"{tmp_path}/ü b"
    assert cfg.train.files == [f"{tmp_path}/a"]


def test_values_have_the_types_of_the_grammar() -> None:
    overrides = [
        "train.max_iter=7",
        "optimizer.lr=1e-4",
        "train.amp.enabled=True",
        "model.memory_loss=null",
        "model.student.backbone.stages.blocks=[1, 1,1,1]",
        "train.model_ema={enabled:True,decay:0.5}",
        "train.output_dir='null'",
        "train.init_checkpoint=null",
        "train.eval_period=${train.max_iter}",
    ]
    cfg = load_config(DISTILLED, overrides)
    assert (cfg.train.max_iter, cfg.optimizer.lr, cfg.train.amp.enabled) == (7, 1e-4, True)
    assert cfg.model.memory_loss is None and cfg.train.init_checkpoint is None
    assert cfg.model.student.backbone.stages.blocks == [1, 1, 1, 1]
    assert cfg.train.model_ema == {
        "enabled": True,
        "decay": 0.5,
        "use_ema_weights_for_eval_only": True,
    }
    assert cfg.train.output_dir == "null"
    assert cfg.train.eval_period == 7


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.backbone.stages.blocks=[1,1", "expected a complete list"),
        ("train.max_iter=${train.max_itr}", r"train\.max_iter=\$\{train\.max_itr\}: .* not found"),
        ("train.max_iter=${", r"^train\.max_iter=\$\{: "),
        ("train.max_iter=${train.max_iter}", "train.max_iter"),
        ("train.max_iter=???", r"train\.max_iter has no value\. Fix: add train\.max_iter="),
    ],
)
def test_a_value_that_cannot_be_read_is_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(PLAIN, [override])
    assert len(str(caught.value).splitlines()) == 1


def test_config_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    named = find_config("common/train.py")
    assert named == find_config("projects/clockdistill/configs/common/train.py")
    monkeypatch.chdir(named.parent)
    assert find_config("train.py") == named


def test_config_with_relative_imports_loads_from_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "common").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "common" / "base.py").write_text("train = dict(max_iter=4)\n")
    (tmp_path / "mine" / "x.py").write_text("from ..common.base import train\n")
    monkeypatch.chdir(tmp_path / "mine")
    assert load_config("x.py", []).train.max_iter == 4


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("dino_r18_kiti.py", "dino_r18_kitti.py"),
        ("projects/clockdistill/configs/mini/dino_r18_synthkity.py", "mini/dino_r18_synthkitti.py"),
        ("dino_r18_kitti", "dino_r18_kitti.py"),
        ("configs/fgd_dino_r18_kitti.py", "methods/fgd_dino_r18_kitti.py"),
        ("teacher/dab_detr_r50_coco.py", "teachers/dab_detr_r50_coco.py"),
    ],
)
def test_a_misspelt_config_suggests_the_nearest_experiment(name: str, near: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_config(name)
    assert f"did you mean projects/clockdistill/configs/{near}" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.py", "import torch\nx = 1 +\n", r"a\.py, line 2: SyntaxError"),
        ("b.py", "x = 1\n\ny = z\n", r"b\.py, line 3: NameError: name 'z' is not defined"),
        ("c.yaml", "a: [1\n", r"c\.yaml: while parsing"),
        ("d.yaml", "- 1\n", r"d\.yaml holds a list"),
        ("e.yaml", "a: !!python/object/apply:os.getcwd []\n", r"e\.yaml: could not determine"),
        ("f.txt", "", r"f\.txt: expected a name that ends in \.py or \.yaml"),
        ("g.py", "from .no import x\n", r"g\.py, line 1: .*no\.py has to exist"),
    ],
)
def test_a_config_that_cannot_be_read_is_named_with_its_line(tmp_path, name, text, message) -> None:
    (tmp_path / name).write_text(text)
    before = builtins.__import__
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(str(tmp_path / name), [])
    assert len(str(caught.value).splitlines()) == 1
    assert builtins.__import__ is before


def test_missing_config_suggests_one() -> None:
    with pytest.raises(ConfigError, match=r"did you mean .*common/train\.py\?"):
        find_config("common/trian.py")
    with pytest.raises(ConfigError, match="no config"):
        find_config("")


def test_failed_import_in_a_config_is_named(tmp_path: Path) -> None:
    path = tmp_path / "needs_more.py"
    path.write_text("import not_installed_anywhere\n")
    with pytest.raises(ConfigError, match=r"needs_more\.py, line 1: .*not_installed_anywhere"):
        load_config(str(path), [])


def test_saved_config_keeps_the_order_of_its_keys(tmp_path: Path) -> None:
    cfg = load_config(PLAIN, [])
    save_config(cfg, tmp_path / "config.yaml")
    again = load_config(str(tmp_path / "config.yaml"), [])
    assert list(again.model) == list(cfg.model)
    assert list(again.train) == list(cfg.train)
    assert locate(again.model._target_) is cfg.model._target_
