"""Learning-rate schedules, and the config leaves made of them."""

from pathlib import Path

import pytest
from detectron2.config import LazyConfig, instantiate

import projects.clockdistill
from projects.clockdistill.engine.schedule import cosine_schedule, step_schedule

_COMMON = Path(projects.clockdistill.__file__).parent / "configs" / "common"


def test_rate_drops_to_a_tenth_at_each_drop() -> None:
    schedule = step_schedule(epochs=12, drop_epochs=[9, 11], max_iter=1200)
    rates = [schedule(step / 1200) for step in (0, 899, 900, 1099, 1100, 1199)]
    assert rates == pytest.approx([1.0, 1.0, 0.1, 0.1, 0.01, 0.01])


def test_cosine_warms_up_and_ends_at_the_end_factor() -> None:
    schedule = cosine_schedule(max_iter=1000, warmup_steps=100, end_factor=0.1)
    # 0.1 + 0.9 * (1 + cos(pi * x)) / 2; at the half 0.55, at a tenth 0.978
    assert schedule(0.0) == pytest.approx(0.001)
    assert schedule(0.05) == pytest.approx(0.489, abs=1e-3)  # half way up to 0.978
    assert schedule(0.1) == pytest.approx(0.978, abs=1e-3)
    assert schedule(0.5) == pytest.approx(0.55)
    assert schedule(0.999) == pytest.approx(0.1, abs=1e-4)


def test_run_shorter_than_its_warmup_warms_up_for_half_of_it() -> None:
    schedule = cosine_schedule(max_iter=10, warmup_steps=200)
    # up to the cosine's 0.5 at half the run: 0.001 + 0.499 * 0.8 after 4 of 5 steps, then down
    assert schedule(0.4) == pytest.approx(0.4002, abs=1e-3)
    assert schedule(0.5) == pytest.approx(0.5)
    assert schedule(0.9) < schedule(0.6) < 0.5


def test_empty_run_names_the_key() -> None:
    with pytest.raises(ValueError, match=r"train\.max_iter"):
        cosine_schedule(max_iter=0)


@pytest.mark.parametrize(
    ("name", "drop"),
    [
        ("kitti_12ep", 11 / 12),
        ("kitti_36ep", 30 / 36),
        ("coco_12ep", 11 / 12),
        ("coco_36ep", 30 / 36),
        ("coco_50ep", 40 / 50),
    ],
)
def test_schedules_of_the_detr_family_drop_once(name: str, drop: float) -> None:
    schedule = _schedule(name, max_iter=9000)
    assert schedule(drop - 1e-3) == pytest.approx(1.0)
    assert schedule(drop + 1e-3) == pytest.approx(0.1)


def test_warmup_follows_an_override_of_max_iter() -> None:
    # 200 steps are a tenth of 2000 and half of 400
    assert _schedule("mini", max_iter=2000)(0.1) == pytest.approx(0.9755, abs=1e-3)
    assert _schedule("mini", max_iter=400)(0.5) == pytest.approx(0.5)


def _schedule(name: str, max_iter: int):
    train = LazyConfig.load(str(_COMMON / "train.py"))
    cfg = LazyConfig.load(str(_COMMON / "schedule.py"))
    cfg.train = train.train
    LazyConfig.apply_overrides(cfg, [f"train.max_iter={max_iter}"])
    return instantiate(cfg[name])
