"""Every config loads, passes the checks and builds; the files are found, not listed."""

from pathlib import Path

import pytest
from detectron2.config import instantiate

from projects.clockdistill import configs
from projects.clockdistill.engine.config_checks import check_config
from projects.clockdistill.engine.config_file import load_config
from projects.clockdistill.engine.param_groups import build_optimizer

ROOT = Path(next(iter(configs.__path__)))
EXPERIMENTS = sorted(
    str(path.relative_to(ROOT))
    for path in ROOT.rglob("*.py")
    if path.relative_to(ROOT).parts[0] not in ("common", "models")
)


def test_experiments_are_found():
    assert {
        "dino_r18_kitti.py",
        "teachers/dino_r50_kitti.py",
        "baselines/dino_r18_kitti.py",
        "mini/dino_r18_synthkitti.py",
    } <= set(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_config_is_whole_and_builds(name):
    cfg = load_config(name, ["train.device=cpu"])
    check_config(cfg)
    model = instantiate(cfg.model)
    optimizer = build_optimizer(cfg.optimizer, model)
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for p in model.parameters() if p.requires_grad}
    schedule = instantiate(cfg.lr_multiplier)
    assert 0 <= schedule(0.999) < schedule(0.5) <= 1
    named = Path(name)
    assert cfg.train.output_dir.endswith(str(named.with_suffix("")))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("baselines/dino_r18_kitti.py", 30_985_229),
        ("teachers/dino_r50_kitti.py", 47_500_301),
    ],
)
def test_full_size_detectors_have_detrexs_number_of_parameters(name, parameters):
    model = instantiate(load_config(name, []).model)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("folder", ["", "mini/"])
def test_student_and_baseline_are_the_same_detector(folder):
    dataset = "synthkitti" if folder else "kitti"
    distilled = load_config(f"{folder}dino_r18_{dataset}.py", [])
    baseline = load_config(f"{folder}baselines/dino_r18_{dataset}.py", [])
    teacher = load_config(f"{folder}teachers/dino_r50_{dataset}.py", [])
    assert distilled.model.student == baseline.model
    assert distilled.train.max_iter == baseline.train.max_iter
    built = instantiate(distilled.model.teacher), instantiate(teacher.model)
    shapes = [{k: v.shape for k, v in model.state_dict().items()} for model in built]
    assert shapes[0] == shapes[1]


def test_the_papers_coefficients_are_the_defaults():
    model = load_config("dino_r18_kitti.py", []).model
    assert (model.token_weights.alpha, model.token_weights.beta) == (5e-5, 1e-7)
    loss = model.logit_loss
    assert (loss.cls_weight, loss.l1_weight, loss.giou_weight) == (1, 5, 2)
    groups = model.query_groups
    assert groups.target_aware.copies == 3
    assert groups.general.num_points == groups.specific.num_points == 900
