"""Tests that every config loads, passes the checks, builds and takes a step.

Those of configs/detrex need a real detrex, so tests/detrex tests them.
"""

from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate
from omegaconf import DictConfig, OmegaConf

from projects.clockdistill import configs
from projects.clockdistill.engine.checkpoint import DetectorCheckpointer
from projects.clockdistill.engine.checks import check_config
from projects.clockdistill.engine.config_file import load_config
from projects.clockdistill.engine.solver import build_optimizer
from projects.clockdistill.engine.weights import local_path, read
from tests.modeling.tiny_detectors import batch

ROOT = Path(next(iter(configs.__path__)))
EXPERIMENTS = sorted(
    str(path.relative_to(ROOT))
    for path in ROOT.rglob("*.py")
    if path.relative_to(ROOT).parts[0] not in ("common", "models", "detrex")
)
DISTILLED = [
    name
    for name in EXPERIMENTS
    if not {"teachers", "baselines", "pretraining"} & set(Path(name).parts[:-1])
]
FAMILIES = ("dino", "dab_detr", "deformable_detr")


def detectors(cfg: DictConfig) -> list[DictConfig]:
    """Returns the configs of the detectors that a config builds, without a crop classifier."""
    models = [cfg.model.student, cfg.model.teacher] if "student" in cfg.model else [cfg.model]
    return [model for model in models if "transformer" in model]


def shrink(detector: DictConfig) -> None:
    """Reduces the queries to fewer than a small image has tokens, and the feed-forward widths."""
    detector.num_queries = 20
    for part in (detector.transformer.encoder, detector.transformer.decoder):
        part.feedforward_dim = 32


def baseline_of(path: Path) -> str:
    """Returns the run without a teacher, or that of the experiment which a method varies."""
    for folder in ("baselines", "teachers"):
        if (ROOT / path.parent / folder / path.name).exists():
            return str(path.parent / folder / path.name)
    dataset = path.stem.rpartition("_")[2]
    return str(path.parents[1] / f"baselines/dino_r18_{dataset}.py")


def resolved(node: DictConfig) -> dict:
    return OmegaConf.to_container(node, resolve=True)


def test_every_experiment_of_the_paper_is_there_and_custom_data_for_all_families():
    table2 = [
        f"{folder}{family}_r{depth}_kitti.py"
        for family in FAMILIES
        for student, teacher in ((18, 50), (50, 101))
        for folder, depth in (("", student), ("teachers/", teacher), ("baselines/", student))
        # the undistilled R50 of these two families is the teacher of their R18
        if (folder, depth) != ("baselines/", 50) or family == "dino"
    ]
    table3_and_custom = [
        f"{folder}{family}_r{depth}_{data}.py"
        for family in FAMILIES
        for data in ("coco", "custom")
        for folder, depth in (("", 18), ("teachers/", 50), ("baselines/", 18))
    ]
    table6 = [
        f"ablations/{folder}layers_{layers}_dino_r18_kitti.py"
        for layers in ("3_6", "6_3", "3_3")
        for folder in ("", "baselines/")
    ]
    mini = [
        f"mini/{folder}{family}_r{depth}_synthkitti.py"
        for family in FAMILIES
        for folder, depth in (("", 18), ("teachers/", 50), ("baselines/", 18))
    ]
    table4 = [f"methods/{row}" for row in ("fitnet", "fgd", "mgd", "kd_detr")]
    table1_and_5 = [f"ablations/{row}" for row in ("memory", "backbone_memory", "memory_mask")]
    compared = [
        f"{scale}{row}_dino_r18_{dataset}.py"
        for row in (*table4, *table1_and_5)
        for scale, dataset in (("", "kitti"), ("mini/", "synthkitti"))
    ]
    assert {*table2, *table3_and_custom, *table6, *mini, *compared} <= set(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_config_passes_the_checks_builds_and_takes_a_step(name):
    cfg = load_config(name, ["train.device=cpu"])
    check_config(cfg)
    assert cfg.train.output_dir.endswith(str(Path(name).with_suffix("")))
    for detector in detectors(cfg):
        shrink(detector)
    model = instantiate(cfg.model).train()
    optimizer = build_optimizer(cfg.optimizer, model)
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for p in model.parameters() if p.requires_grad}
    schedule = instantiate(cfg.lr_multiplier)
    assert 0 <= schedule(0.999) < schedule(0.5) <= 1
    losses = model(batch())
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    optimizer.step()
    assert any("distill" in key for key in losses) == (name in DISTILLED)


@pytest.mark.parametrize("family", FAMILIES)
def test_small_students_start_from_the_shipped_backbone(family):
    cfg = load_config(f"mini/baselines/{family}_r18_synthkitti.py", [])
    model = instantiate(cfg.model)
    DetectorCheckpointer(model).load_initial(cfg.train.init_checkpoint)
    shipped = read(local_path(cfg.train.init_checkpoint, "train.init_checkpoint"))["model"]
    loaded = {key: value for key, value in model.state_dict().items() if key in shipped}
    assert loaded.keys() == shipped.keys() >= {"backbone.stem.conv1.weight"}
    torch.testing.assert_close(loaded, shipped, rtol=0, atol=0)


@pytest.mark.parametrize("name", DISTILLED)
def test_teacher_and_baseline_are_the_detectors_of_the_distilled_run(name):
    distilled = load_config(name, [])
    path = Path(name)
    baseline = load_config(baseline_of(path), [])
    assert resolved(distilled.model.student) == resolved(baseline.model)
    assert resolved(distilled.train) == resolved(baseline.train) | {
        "output_dir": distilled.train.output_dir
    }
    assert resolved(distilled.dataloader) == resolved(baseline.dataloader)
    assert resolved(distilled.optimizer) == resolved(baseline.optimizer)
    checkpoint = Path(distilled.model.teacher_checkpoint)
    teacher_name = (
        str(Path(*checkpoint.parts[1:-1]))
        if checkpoint.parts[0] == "output"
        else f"{path.parts[0]}/teachers/{checkpoint.stem.removeprefix('mid_')}"
    )
    teacher = load_config(f"{teacher_name}.py", [])
    assert resolved(distilled.model.teacher) == resolved(teacher.model)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("baselines/dino_r18_kitti.py", 30_985_229),
        ("teachers/dino_r50_kitti.py", 47_500_301),
        ("teachers/dino_r101_kitti.py", 66_440_205),
        ("baselines/dab_detr_r18_kitti.py", 30_968_713),
        ("teachers/dab_detr_r50_kitti.py", 43_649_929),
        ("teachers/dab_detr_r101_kitti.py", 62_589_833),
        ("baselines/deformable_detr_r18_kitti.py", 23_533_005),
        ("teachers/deformable_detr_r50_kitti.py", 40_048_077),
        ("teachers/deformable_detr_r101_kitti.py", 58_987_981),
    ],
)
def test_full_size_detectors_have_detrexs_number_of_parameters(name, parameters):
    with torch.device("meta"):
        model = instantiate(load_config(name, []).model)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize(
    ("name", "num_points"),
    [
        ("dino_r18_kitti.py", 900),
        ("dab_detr_r50_kitti.py", 300),
        ("deformable_detr_r18_coco.py", 300),
    ],
)
def test_the_papers_coefficients_are_the_defaults(name, num_points):
    model = load_config(name, []).model
    assert (model.token_weights.alpha, model.token_weights.beta) == (5e-5, 1e-7)
    loss = model.logit_loss
    assert (loss.cls_weight, loss.l1_weight, loss.giou_weight) == (1, 5, 2)
    groups = model.query_groups
    assert groups.target_aware.copies == 3
    assert groups.general.num_points == groups.specific.num_points == num_points


@pytest.mark.parametrize(("encoder", "decoder"), [(3, 6), (6, 3), (3, 3)])
def test_layer_ablations_shorten_the_student_alone(encoder, decoder):
    model = load_config(f"ablations/layers_{encoder}_{decoder}_dino_r18_kitti.py", []).model
    student, teacher = model.student.transformer, model.teacher.transformer
    assert (student.encoder.num_layers, student.decoder.num_layers) == (encoder, decoder)
    assert (teacher.encoder.num_layers, teacher.decoder.num_layers) == (6, 6)


@pytest.mark.parametrize("scale", ["{}_dino_r18_kitti.py", "mini/{}_dino_r18_synthkitti.py"])
@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("methods/fitnet", {"fitnet"}),
        ("methods/fgd", {"fgd"}),
        ("methods/mgd", {"mgd"}),
        ("methods/kd_detr", {"general", "specific"}),
        ("ablations/memory", {"none"}),
        ("ablations/backbone_memory", {"none", "fitnet"}),
        ("ablations/memory_mask", {"location_scale"}),
    ],
)
def test_each_row_switches_on_what_it_is_named_after(scale, row, expected):
    model = load_config(scale.format(row), []).model
    on = {name for name in ("fitnet", "fgd", "mgd") if model.feature_losses.get(name) is not None}
    if model.memory_loss is not None:
        on.add(model.token_weights.masks)
    if model.logit_loss is not None:
        kinds = ("target_aware", "general", "specific")
        on |= {kind for kind in kinds if model.query_groups[kind] is not None}
    assert on == expected
