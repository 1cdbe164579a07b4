"""Tests that prediction detects what the evaluation does, in pictures of any kind."""

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog
from detectron2.data import transforms as T
from detectron2.structures import Instances
from omegaconf import DictConfig
from PIL import Image

from projects.clockdistill import Predictor
from projects.clockdistill.deployment import runtimes
from projects.clockdistill.deployment.images import read_image
from projects.clockdistill.deployment.loading import find_run, load_detector
from projects.clockdistill.deployment.model_spec import ModelSpec
from projects.clockdistill.engine.checkpoint import DetectorCheckpointer
from projects.clockdistill.engine.config_file import ROOT, ConfigError, load_config, save_config
from projects.clockdistill.engine.evaluate import Evaluation
from projects.clockdistill.engine.weights import CheckpointError
from projects.clockdistill.evaluation.coco import to_coco_detections
from tests.tiny_predictor import write_run
from tests.tiny_run import PLAIN, tiny_overrides

# odd sizes and a limit that the 64 x 48 drawings reach: 60 x 45
RESIZING = [
    {
        "_target_": "detectron2.data.transforms.ResizeShortestEdge",
        "short_edge_length": 53,
        "max_size": 60,
    }
]


@pytest.fixture
def cfg(tmp_path: Path) -> DictConfig:
    cfg = load_config(PLAIN, tiny_overrides(tmp_path))
    cfg.dataloader.test.mapper.augmentation = RESIZING
    return cfg


def frames() -> list[dict]:
    return DatasetCatalog.get("drawings_val")


def assert_same(got: Instances, expected: Instances) -> None:
    assert got.image_size == expected.image_size
    assert len(expected) > 0
    assert torch.equal(got.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert torch.equal(got.scores, expected.scores)
    assert torch.equal(got.pred_classes, expected.pred_classes)


@pytest.mark.parametrize("input_format", ["RGB", "BGR"])
def test_predictions_are_those_of_the_evaluation(cfg, input_format) -> None:
    cfg.model.input_format = input_format
    predictor = Predictor(write_run(cfg), threshold=0.0)
    detector = instantiate(cfg.model).eval()
    DetectorCheckpointer(detector).load_exact(f"{cfg.train.output_dir}/model_final.pth", "weights")
    evaluation = Evaluation(cfg.dataloader, cfg.train.output_dir)
    evaluation(detector)
    expected = evaluation._evaluators[0]._detections
    got = [
        detection
        for frame in frames()
        for detection in to_coco_detections(
            predictor(frame["file_name"]), frame["image_id"], {0: 0, 1: 1}
        )
    ]
    assert len(expected) > 100
    assert got == expected


def test_threshold_keeps_the_scores_at_or_above_it(cfg) -> None:
    folder = write_run(cfg)
    path = frames()[0]["file_name"]
    everything = Predictor(folder, threshold=0.0)(path)
    threshold = float(everything.scores[7])  # they fall
    assert len(Predictor(folder, threshold=threshold)(path)) == 8
    default = Predictor(folder)
    assert default.threshold == 0.5
    assert len(default(path)) == int((everything.scores >= 0.5).sum())
    with pytest.raises(ValueError, match="threshold 50 is not a score"):
        Predictor(folder, threshold=50)


def test_arrays_pillow_images_and_paths_are_one_picture(cfg) -> None:
    predictor = Predictor(write_run(cfg), threshold=0.0)
    path = frames()[0]["file_name"]
    rgb = np.asarray(Image.open(path))
    expected = predictor(path)
    assert_same(predictor(Path(path)), expected)
    assert_same(predictor(rgb[:, :, ::-1]), expected)
    assert_same(predictor(Image.open(path)), expected)
    assert predictor([]) == []


def test_a_batch_gives_each_picture_its_own_detections(cfg) -> None:
    predictor = Predictor(write_run(cfg), threshold=0.0)
    paths = [frame["file_name"] for frame in frames()[:3]]
    for got, path in zip(predictor(paths), paths, strict=True):
        # rounding alone may change the order of scores
        expected = predictor(path).scores.sort().values
        torch.testing.assert_close(got.scores.sort().values, expected, rtol=0, atol=1e-5)
    # of other sizes: each in its own pixels
    sizes = [(64, 48), (30, 90), (200, 10)]
    found = predictor([Image.open(paths[0]).resize(size) for size in sizes])
    assert [instances.image_size for instances in found] == [(48, 64), (90, 30), (10, 200)]


def test_exif_orientation_is_applied_as_the_mapper_applies_it(cfg, tmp_path) -> None:
    image = Image.open(frames()[0]["file_name"])  # 64 x 48
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned = tmp_path / "turned.png"
    image.save(turned, exif=exif)
    array = read_image(turned)
    assert array.shape == (64, 48, 3)
    np.testing.assert_array_equal(array, np.rot90(np.asarray(image), k=-1))
    np.testing.assert_array_equal(read_image(Image.open(turned)), array)
    mapper = instantiate(cfg.dataloader.test.mapper)
    mapped = mapper({"file_name": str(turned)})
    height, width = ModelSpec.from_config(cfg).input_size(64, 48)
    resizing = T.ResizeTransform(64, 48, height, width, Image.BILINEAR)
    expected = mapped["image"].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(resizing.apply_image(array), expected)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "CMYK"])
def test_files_of_every_8_bit_mode_are_read_in_rgb(tmp_path, mode) -> None:
    colours = Image.new("RGB", (5, 4), (255, 0, 0))
    colours.paste((255, 255, 255), (0, 0, 2, 2))
    image = colours.convert(mode)
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    image.save(path)
    array = read_image(path)
    assert array.shape == (4, 5, 3)
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(array, np.asarray(image.convert("RGB")))
    assert (array[0, 0] == 255).all()
    assert not (array[3, 4] == 255).all()


def test_arrays_of_grey_and_transparent_pixels() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    expected = np.stack([grey] * 3, axis=-1)
    np.testing.assert_array_equal(read_image(grey), expected)
    np.testing.assert_array_equal(read_image(grey[..., None]), expected)
    bgra = np.full((3, 4, 4), (10, 20, 30, 40), np.uint8)
    assert (read_image(bgra) == (30, 20, 10)).all()


def test_what_is_no_picture_is_refused_with_its_name(tmp_path) -> None:
    for array in (np.zeros((4, 5, 3)), np.zeros((4, 5, 2), np.uint8), np.zeros(5, np.uint8)):
        with pytest.raises(ValueError, match=r"expected \(H, W, 3\) uint8 in BGR order"):
            read_image(array)
    with pytest.raises(ValueError, match="no pixel"):
        read_image(np.zeros((0, 5, 3), np.uint8))
    with pytest.raises(ValueError, match="image of type Tensor"):
        read_image(torch.zeros(3, 4, 5))
    text = tmp_path / "text.png"
    text.write_text("no picture")
    with pytest.raises(ValueError, match=r"unreadable image .*text.png"):
        read_image(text)
    with pytest.raises(FileNotFoundError, match=r"none.png does not exist"):
        read_image(tmp_path / "none.png")


# ------------------------------------------------------------------ where the detector comes from


def test_run_folder_prefers_the_best_weights_and_says_so(cfg, caplog) -> None:
    folder = write_run(cfg, "model_final")
    path = frames()[0]["file_name"]
    with caplog.at_level(logging.INFO):
        final = Predictor(folder, threshold=0.0)(path)
        assert "model_final.pth" in caplog.messages[0]
        write_run(cfg, "model_best")  # other random weights
        caplog.clear()
        best = Predictor(folder, threshold=0.0)(path)
        assert "model_best.pth" in caplog.messages[0]
    assert not torch.equal(best.scores, final.scores)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    by_name = Predictor(folder / "config.yaml", folder / "model_final.pth", threshold=0.0)
    assert_same(by_name(path), final)


def test_the_spec_of_the_weights_beats_the_config(cfg) -> None:
    folder = write_run(cfg)
    cfg.dataloader.test.mapper.augmentation = []
    save_config(cfg, folder / "config.yaml")
    spec = Predictor(folder).spec
    assert (spec.short_edge, spec.max_size) == (53, 60)
    cfg.model.pixel_mean = [0.0, 0.0, 0.0]
    with pytest.raises(CheckpointError, match=r"was trained with .*\nFix: set input_format=RGB"):
        Predictor(cfg, folder / "model_final.pth")


def test_weights_without_a_spec_take_it_from_the_config_with_a_warning(cfg, caplog) -> None:
    folder = write_run(cfg, with_spec=False)
    spec = Predictor(folder).spec
    assert "does not say which classes" in caplog.text
    assert spec.class_names == ("red", "green")
    assert (spec.short_edge, spec.max_size, spec.input_format) == (53, 60, "RGB")


def test_sources_that_cannot_be_used_are_refused_with_a_fix(cfg, tmp_path) -> None:
    with pytest.raises(ConfigError, match="nowhere is not a folder"):
        Predictor(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"holds no config\.yaml"):
        Predictor(tmp_path)
    folder = write_run(cfg)
    with pytest.raises(ConfigError, match=r"found .*model_final.pth alone"):
        Predictor(folder / "model_final.pth")
    with pytest.raises(ConfigError, match="device=nonsense"):
        Predictor(folder, device="nonsense")
    (folder / "model_final.pth").unlink()
    with pytest.raises(CheckpointError, match="neither model_best.pth nor model_final.pth"):
        Predictor(folder)


class _FixedSizeRuntime:
    """What `open_model` returns, by the detector of a run itself: images of 45 x 60."""

    height, width = 45, 60

    def __init__(self, run: Path) -> None:
        cfg, weights = find_run(run)
        self._detector, self.spec = load_detector(cfg, weights, "cpu")
        self.sizes: list[tuple[int, int]] = []

    def __call__(self, images: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, ...]:
        assert images.shape == (len(sizes), 3, self.height, self.width)
        self.sizes += map(tuple, sizes.tolist())
        found = []
        for image, (height, width) in zip(images, sizes, strict=True):
            assert not image[:, height:].any()
            assert not image[:, :, width:].any()
            with torch.no_grad():
                inputs = [{"image": torch.from_numpy(image[:, :height, :width].copy())}]
                found.append(self._detector(inputs)[0]["instances"])
        return (
            np.stack([instances.pred_boxes.tensor.numpy() for instances in found]),
            np.stack([instances.scores.numpy() for instances in found]),
            np.stack([instances.pred_classes.numpy() for instances in found]),
        )


def test_exported_files_get_what_the_detector_gets_made_to_fit(cfg, monkeypatch) -> None:
    folder = write_run(cfg)
    runtime = _FixedSizeRuntime(folder)
    monkeypatch.setattr(runtimes, "open_model", {Path("student.onnx"): runtime}.__getitem__)
    exported = Predictor(Path("student.onnx"), threshold=0.0)
    assert exported.spec == Predictor(folder).spec

    path = frames()[0]["file_name"]
    expected = Predictor(folder, threshold=0.0)(path)
    got = exported(path)
    # twice scaled with other rounding: 64 pixels in float32 are exact to 8e-6
    torch.testing.assert_close(got.pred_boxes.tensor, expected.pred_boxes.tensor, rtol=0, atol=5e-5)
    assert torch.equal(got.scores, expected.scores)

    # upright: 48 x 64 becomes 45 x 60 for the detector, and 33.75 x 45 to fit
    both = exported([path, Image.open(path).resize((48, 64))])
    assert runtime.sizes[-2:] == [(45, 60), (45, 34)]
    assert both[1].image_size == (64, 48)
    assert 45 < both[1].pred_boxes.tensor[:, 3].max() <= 64


def test_spec_round_trip_and_limits(cfg) -> None:
    spec = ModelSpec.from_config(cfg)
    assert ModelSpec.from_json(spec.to_json()) == spec
    assert ModelSpec.from_json(spec.to_json()[:-1] + ', "of_a_later_version": 1}') == spec
    assert spec.input_size(48, 64) == (45, 60)
    with pytest.raises(ValueError, match="not a description of a detector"):
        ModelSpec.from_json("[]")
    flip = {"_target_": "detectron2.data.transforms.RandomFlip"}
    cfg.dataloader.test.mapper.augmentation = [*RESIZING, flip]
    with pytest.raises(ConfigError, match="only ResizeShortestEdge"):
        ModelSpec.from_config(cfg)
    cfg.dataloader.test.mapper.augmentation = []
    assert ModelSpec.from_config(cfg).input_size(48, 64) == (48, 64)
    cfg.model.num_classes = 3
    with pytest.raises(ConfigError, match=r"model.num_classes=3.*has 2 classes"):
        ModelSpec.from_config(cfg)


def test_importing_the_package_imports_neither_torch_nor_detectron2() -> None:
    code = (
        "import sys, projects.clockdistill as package\n"
        "assert not {'torch', 'detectron2'} & set(sys.modules)\n"
        "assert not hasattr(package, 'predictor')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
