"""KITTI's evaluator on small trees in KITTI's format."""

import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm
from PIL import Image

from projects.clockdistill.data import PRESETS, register_kitti, register_part
from projects.clockdistill.engine.config_file import load_config
from projects.clockdistill.engine.evaluate import Evaluation
from projects.clockdistill.errors import UserError
from projects.clockdistill.evaluation.kitti import KittiEvaluator
from tests.tiny_run import OracleDetector, register_drawings

NAME = "small_kitti"
Register = Callable[..., str]


def line(kind: str, left: float, right: float, marks: str = "0.00 0") -> str:
    return f"{kind} {marks} 0 {left} 20 {right} 80 1 1 1 1 1 1 0"


@pytest.fixture
def register(tmp_path: Path) -> Iterator[Register]:
    """Returns a function: label files' lines, preset -> name of a registered dataset."""

    def write(labels: list[list[str]], preset: str = "kitti7") -> str:
        for folder in ("image_2", "label_2"):
            (tmp_path / "training" / folder).mkdir(parents=True)
        for index, lines in enumerate([*labels, []]):  # the last one is for training
            Image.new("RGB", (300, 100)).save(tmp_path / f"training/image_2/{index:06d}.png")
            (tmp_path / f"training/label_2/{index:06d}.txt").write_text("\n".join(lines))
        names = [f"{index:06d}" for index in range(len(labels) + 1)]
        (tmp_path / "val.txt").write_text("\n".join(names[:-1]))
        (tmp_path / "train.txt").write_text(names[-1])
        files = {split: tmp_path / f"{split}.txt" for split in ("train", "val")}
        register_kitti(NAME, preset, tmp_path, files)
        return f"{NAME}_val"

    yield write
    for split in ("train", "val"):
        if f"{NAME}_{split}" in DatasetCatalog:
            DatasetCatalog.remove(f"{NAME}_{split}")
            MetadataCatalog.remove(f"{NAME}_{split}")


def add(
    evaluator: KittiEvaluator, image_id: int, label: int, *box: float, score: float = 0.9
) -> None:
    """Gives the evaluator one detection."""
    found = Instances(
        (100, 300),
        pred_boxes=Boxes(torch.tensor([box])),
        scores=torch.tensor([score]),
        pred_classes=torch.tensor([label]),
    )
    evaluator.process([{"image_id": image_id}], [{"instances": found}])


def test_a_part_of_a_dataset_has_the_frames_of_its_dicts(register: Register) -> None:
    whole = register([[line("Car", 50, 150)] for _ in range(3)])
    register_part("small_part", whole, slice(1, None))
    evaluator = KittiEvaluator("small_part")
    evaluator.reset()
    for record in DatasetCatalog.get("small_part"):
        add(evaluator, record["image_id"], 0, 50, 20, 150, 80)
    assert evaluator.evaluate()["kitti"]["AP40-Car-easy"] == 100 * 1 / 40  # both of two cars
    with pytest.raises(UserError, match="the ground truth does not have: 0"):
        add(evaluator, 0, 0, 50, 20, 150, 80)
    DatasetCatalog.remove("small_part")
    MetadataCatalog.remove("small_part")


def test_figures_of_a_detector_by_class_and_their_mean(register: Register) -> None:
    # 41 cars, of which all are found, and one cyclist, which is not
    labels = [[line("Car", 50, 150)] for _ in range(41)]
    labels[0].append(line("Cyclist", 200, 280))
    evaluator = KittiEvaluator(register(labels))
    evaluator.reset()
    for image in range(41):
        add(evaluator, image, 0, 50, 20, 150, 80)
    figures = evaluator.evaluate()["kitti"]
    assert figures["AP40-Car-easy"] == figures["AP11-Car-hard"] == 100
    assert figures["AP40-Cyclist-moderate"] == 0
    assert math.isnan(figures["AP40-Tram-easy"])
    assert figures["AP40-easy"] == figures["AP11-hard"] == 50  # of the two classes with objects
    evaluator.reset()
    assert evaluator.evaluate()["kitti"]["AP40-Car-easy"] == 0


def test_objects_of_no_class_and_boxes_as_the_file_has_them_count(register: Register) -> None:
    # By kitti3, a van is ignored for cars. The car's box overhangs by 60 of 100 pixels: a
    # detection of the part inside has an IoU of 0.4.
    labels = [[line("Van", 200, 280), line("Car", -60, 40)]]
    evaluator = KittiEvaluator(register(labels, "kitti3"))
    evaluator.reset()
    add(evaluator, 0, 0, 200, 20, 280, 80, score=0.95)
    add(evaluator, 0, 0, -60, 20, 40, 80)
    assert evaluator.evaluate()["kitti"]["AP11-Car-easy"] == pytest.approx(100 / 11)
    evaluator.reset()
    add(evaluator, 0, 0, 0, 20, 40, 80)
    assert evaluator.evaluate()["kitti"]["AP11-Car-easy"] == 0


def test_grouped_types_are_objects_of_their_class(register: Register) -> None:
    evaluator = KittiEvaluator(register([[line("Van", 50, 150)]], "kitti3g"))
    evaluator.reset()
    add(evaluator, 0, 0, 50, 20, 150, 80)
    assert evaluator.evaluate()["kitti"]["AP11-Car-easy"] == pytest.approx(100 / 11)


def test_misc_has_no_official_overlap_and_is_left_out(register: Register) -> None:
    evaluator = KittiEvaluator(register([[line("Misc", 50, 150)]], "kitti8"))
    evaluator.reset()
    names = {name.split("-")[1] for name in evaluator.evaluate()["kitti"] if name.count("-") == 2}
    assert names == set(PRESETS["kitti7"].classes)


def test_images_that_are_left_out_do_not_count(register: Register) -> None:
    name = register([[line("Car", 50, 150)], [line("Car", 50, 150)]])
    evaluator = KittiEvaluator(name, left_out=[1])
    evaluator.reset()
    add(evaluator, 0, 0, 50, 20, 150, 80)
    assert evaluator.evaluate()["kitti"]["AP11-Car-easy"] == pytest.approx(100 / 11)
    with pytest.raises(UserError, match=r"does not have: 1\.\nFix: give dataloader\.evaluator"):
        add(evaluator, 1, 0, 50, 20, 150, 80)


def test_several_processes_give_the_figures_of_one(
    register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = register([[line("Car", 50 + index, 150)] for index in range(4)])

    def fill(evaluator: KittiEvaluator, images: tuple[int, ...]) -> KittiEvaluator:
        evaluator.reset()
        for image in images:
            add(evaluator, image, 0, 50 + image, 20, 150, 80, score=0.5 + 0.1 * image)
            add(evaluator, image, 0, 150, 20, 250, 80, score=0.6)
        return evaluator

    alone = fill(KittiEvaluator(name), (0, 1, 2, 3)).evaluate()["kitti"]
    second = fill(KittiEvaluator(name), (1, 3))._detections
    monkeypatch.setattr(comm, "gather", lambda own: [second, own])
    together = fill(KittiEvaluator(name), (0, 2)).evaluate()["kitti"]
    assert together == pytest.approx(alone, nan_ok=True)
    assert 0 < alone["AP11-Car-easy"] < 100
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert KittiEvaluator(name).evaluate() == {}


def test_classes_with_few_objects_are_named(
    register: Register, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        KittiEvaluator(register([[line("Car", 50, 150), line("Car", 160, 250)]]))
    assert "Car/easy has 2, at most 2.5;" in caplog.text  # the recalls 0/40 and 1/40
    assert "Tram" not in caplog.text  # which has none


def test_both_evaluators_of_the_shipped_config_measure(register: Register, tmp_path: Path) -> None:
    labels = [[line("Car", 50, 150), line("DontCare", 200, 280, "-1 -1")], [line("Tram", 9, 90)]]
    name = register(labels)
    more = [f"dataloader.test.dataset.names={name}", "dataloader.test.num_workers=0"]
    dataloader = load_config("baselines/dino_r18_kitti.py", more).dataloader
    results = Evaluation(dataloader, str(tmp_path / "run"))(OracleDetector(name))
    assert results["bbox"]["AP"] == pytest.approx(100)
    assert results["kitti"]["AP11-Tram-moderate"] == pytest.approx(100 / 11)
    text = (tmp_path / "run/results.md").read_text()
    assert "## bbox" in text and "| mean " in text


def test_data_without_truncation_and_occlusion_is_refused_by_name(
    register: Register, tmp_path: Path
) -> None:
    drawings = register_drawings("drawings_val", tmp_path / "images")
    with pytest.raises(UserError, match=r"^drawings_val comes from a function.*\nFix: .*1=null$"):
        KittiEvaluator(drawings)
    MetadataCatalog.get(drawings).json_file = "some.json"
    with pytest.raises(UserError, match=r"^drawings_val comes from some\.json"):
        KittiEvaluator(drawings)
    name = register([[line("Car", 50, 150, "-1 -1")], []])
    with pytest.raises(UserError, match=rf"^{name}: .*-1, for unknown.*of all 1 objects"):
        KittiEvaluator(name)


def test_data_without_one_of_kittis_classes_is_refused(register: Register) -> None:
    name = register([[line("Car", 50, 150)], []])
    MetadataCatalog.remove(name)
    MetadataCatalog.get(name).set(thing_classes=["bolt"], kitti_frames=lambda: ())
    with pytest.raises(UserError, match=rf"^{name} has the classes bolt, none of those"):
        KittiEvaluator(name)
