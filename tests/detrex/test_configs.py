"""The configs that distil detrex's own detectors: complete, built, one step."""

from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate

from projects.clockdistill import configs
from projects.clockdistill.engine.checks import check_config
from projects.clockdistill.engine.config_file import load_config
from projects.clockdistill.engine.solver import build_optimizer
from tests.detrex.pairs import batch, small

pytestmark = pytest.mark.detrex

ROOT = Path(next(iter(configs.__path__)))
EXPERIMENTS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "detrex").glob("*.py"))
# detrex's R50 teacher, R18 student made from it; 80 classes
BACKBONE_PARAMETERS = {"teacher": 23_454_912, "student": 11_166_912}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_config_is_whole_builds_and_steps(name):
    cfg = load_config(name, ["train.device=cpu"])
    check_config(cfg)
    assert cfg.train.output_dir == "output/" + name.removesuffix(".py")
    for role in ("student", "teacher"):
        assert not cfg.model[role]._target_.__module__.startswith("projects.clockdistill")
    assert cfg.model.student.num_classes == cfg.model.student.criterion.num_classes == 80
    for role, parameters in BACKBONE_PARAMETERS.items():
        backbone = instantiate(cfg.model[role].backbone)
        assert sum(p.numel() for p in backbone.parameters()) == parameters

    small(cfg.model.student), small(cfg.model.teacher)
    cfg.model.query_groups.general.num_points = cfg.model.query_groups.specific.num_points = 9
    model = instantiate(cfg.model).train()
    assert model.teacher.criterion.num_classes == model.student.num_classes == 3
    optimizer = build_optimizer(cfg.optimizer, model)
    losses = model(batch())
    sum(losses.values()).backward()
    optimizer.step()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(p.isfinite().all() for p in model.student.parameters())


def test_detrexs_own_models_stay_as_they_are():
    models = [load_config(EXPERIMENTS[0], []).model for _ in range(2)]
    models[0].student.transformer.encoder.num_layers = 1
    assert models[1].student.transformer.encoder.num_layers == 6
