"""Tests `train.compile`; the backend "aot_eager" traces as all others do and needs no compiler."""

import copy
from collections.abc import Iterator

import pytest
import torch
from detectron2.config import instantiate
from torch import nn
from torch._dynamo.utils import counters
from torch.fx.experimental import _config as shapes_config

from projects.clockdistill.configs.models.distill import distill
from projects.clockdistill.engine.compile import check_compiler, compile_model
from projects.clockdistill.engine.config_file import ConfigError
from projects.clockdistill.engine.ema import ModelEma
from tests.modeling.tiny_detectors import ADAPTERS, batch, tiny_config

# Objects and (height, width) of two images: each number changes by itself, and no two are tied.
STEPS = [
    ((2, 2), ((64, 64), (48, 64))),
    ((3, 1), ((64, 96), (48, 80))),
    ((4, 0), ((96, 64), (48, 64))),
    ((2, 7), ((96, 160), (90, 150))),
    ((0, 5), ((70, 100), (64, 130))),
    ((2, 3), ((160, 96), (64, 200))),
]


@pytest.fixture(autouse=True)
def no_graphs() -> Iterator[None]:
    """Starts each test without graphs, and keeps torch's settings for the tests that follow."""
    torch._dynamo.reset()
    counters.clear()
    defaults = {"cache_size_limit": 8, "specialize_float": False}
    with torch._dynamo.config.patch(defaults), shapes_config.patch(use_duck_shape=True):
        yield


def tiny_distiller(family: str) -> nn.Module:
    """Returns CLoCKDistill between two tiny detectors with one block per backbone stage."""
    student, teacher = tiny_config(family), tiny_config(family, num_layers=1)
    for config in (student, teacher):
        config.backbone.stages.blocks = [1, 1, 1, 1]
    return instantiate(distill(student, teacher, ADAPTERS[family], num_points=5)).train()


def train(model: nn.Module, graphs: list[int]) -> list[dict[str, torch.Tensor]]:
    """Takes `STEPS`; returns their losses and appends the number of graphs after each."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=1e-3)
    losses = []
    for counts, sizes in STEPS:
        torch.manual_seed(0)  # of the denoising queries
        losses.append(model(batch(counts, sizes)))
        optimizer.zero_grad()
        sum(losses[-1].values()).backward()
        optimizer.step()
        graphs.append(counters["stats"]["unique_graphs"])
    return losses


def test_a_compiled_run_takes_the_same_steps_with_the_graphs_of_the_first() -> None:
    compiled = tiny_distiller("dino")
    eager = copy.deepcopy(compiled)
    compile_model(compiled, backend="aot_eager")
    graphs = []
    got = train(compiled, graphs)
    # encoder layer and decoder layer of student and teacher
    assert graphs == [4] * len(STEPS)
    assert not counters["graph_break"]
    torch.testing.assert_close(got, train(eager, []), rtol=1e-4, atol=1e-6)


def test_the_average_is_not_compiled_and_keys_stay() -> None:
    model = tiny_distiller("dino")
    keys = list(model.state_dict())
    compile_model(model, backend="aot_eager")
    assert list(model.state_dict()) == keys
    compiled = [m for m in model.student.modules() if m._compiled_call_impl is not None]
    assert len(compiled) == 2 + 2  # two encoder and two decoder layers
    average = ModelEma(model.student, decay=0.9).module
    assert not any(m._compiled_call_impl for m in average.modules())


def test_a_model_without_such_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match="has no encoder or decoder layers"):
        compile_model(nn.Linear(1, 1))


@pytest.mark.parametrize(("device", "names"), [("cpu", r"g\+\+"), ("cuda", "gcc, clang")])
def test_a_missing_compiler_is_named(device, names, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=rf"no compiler \({names}\) was found.\nFix: "):
        check_compiler(device)
