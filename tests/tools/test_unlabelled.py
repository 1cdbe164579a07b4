"""Training with images without labels, from the command line."""

import json
from pathlib import Path

import pytest
import torch
import train_net
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog
from PIL import Image

from projects.clockdistill.engine.config_file import CONFIGS, load_config
from tests.tiny_run import DISTILLED, PLAIN, tiny_overrides


def command(tmp_path: Path, config: str, *overrides: str) -> list[str]:
    names = f"dataloader.unlabelled.names=[{tmp_path / 'frames'}]"
    (tmp_path / "frames").mkdir()
    for number in range(4):
        Image.new("RGB", (64, 48), (50 * number, 100, 90)).save(tmp_path / f"frames/{number}.png")
    file = ["--config-file", str(CONFIGS / config)]
    return [*file, *tiny_overrides(tmp_path, config), names, *overrides]


def refusal(arguments: list[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        train_net.main(arguments)
    return str(caught.value)


def test_a_student_trains_with_a_folder_of_images(tmp_path: Path) -> None:
    teacher = f"model.teacher_checkpoint={tmp_path / 'teacher.pth'}"
    sure = "model.pseudo_targets.threshold=0.01"
    short = ["train.max_iter=2", "train.log_period=1", "train.teacher_check_images=0"]
    arguments = command(tmp_path, DISTILLED, teacher, sure, *short)
    cfg = load_config(arguments[1], arguments[2:])
    torch.save(instantiate(cfg.model).teacher.state_dict(), tmp_path / "teacher.pth")
    train_net.main(arguments)
    logged = json.loads((tmp_path / "output/metrics.json").read_text().splitlines()[0])
    for name in ("memory", "class"):  # boxes are equal: all untrained box heads end in zeros
        assert logged[f"loss_distill_{name}"] > 0
        assert logged[f"loss_distill_{name}_unlabelled"] > 0
    assert "images without labels: 4 (" in (tmp_path / "output/log.txt").read_text()


def test_a_dataset_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    DatasetCatalog.register("broken", lambda: [{}["missing"]])
    names = "dataloader.unlabelled.names=[broken]"
    text = refusal(command(tmp_path, DISTILLED, names))
    assert "dataloader.unlabelled.names: cannot be loaded: KeyError: 'missing'" in text
    DatasetCatalog.remove("broken")


@pytest.mark.parametrize(
    ("config", "overrides", "message"),
    [
        (PLAIN, [], "but the model has no teacher"),
        (DISTILLED, ["model.pseudo_targets=null"], "but model.pseudo_targets is null"),
        (DISTILLED, ["dataloader.unlabelled.ratio=0.4"], "is 1.6; expected a whole number"),
        (DISTILLED, ["dataloader.unlabelled.ratio=1"], "is 4; expected a whole number from 1 to 3"),
        (DISTILLED, ["dataloader.unlabelled.names=[nowhere]"], "nowhere is neither a registered"),
    ],
)
def test_refusals_before_anything_is_written(
    tmp_path: Path, config: str, overrides: list[str], message: str
) -> None:
    text = refusal(command(tmp_path, config, *overrides))
    assert message in text and "Fix: " in text
    assert not (tmp_path / "output").exists()
