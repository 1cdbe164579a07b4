"""tools/export.py from a run folder to a file, and what it refuses."""

import contextlib
import dataclasses
import io
import json
import re
from pathlib import Path

import export
import numpy as np
import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.evaluation import DatasetEvaluators

from projects.clockdistill.deployment.model_spec import ModelSpec
from projects.clockdistill.deployment.parity import Parity
from projects.clockdistill.deployment.predictor import Predictor
from projects.clockdistill.deployment.runtimes import Runtime, open_model
from projects.clockdistill.engine.config_file import ConfigError, load_config, save_config
from tests.tiny_run import PLAIN, OracleDetector, register_drawings, tiny_overrides


@torch.no_grad()
def raise_scores(detector: torch.nn.Module, by: float) -> None:
    for name, parameter in detector.named_parameters():
        if "class_embed" in name and name.endswith("bias"):
            parameter.add_(by)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of an untrained detector whose scores are above 0.1."""
    folder = tmp_path_factory.mktemp("run")
    cfg = load_config(PLAIN, tiny_overrides(folder))
    register_drawings("drawings_val", folder / "drawings_val", images=32, seed=1)
    detector = instantiate(cfg.model)
    raise_scores(detector, by=4)
    spec = ModelSpec.from_config(cfg).to_json()
    torch.save({"model": detector.state_dict(), "model_spec": spec}, folder / "model_final.pth")
    save_config(cfg, folder / "config.yaml")
    return folder


def command(run: Path, output: Path, *options: str, format: str = "exported-program") -> None:
    export.main(["--run", str(run), "--format", format, "--output", str(output), *options])


def refused(run: Path, output: Path, *options: str, format: str = "exported-program") -> str:
    with pytest.raises(SystemExit) as caught:
        command(run, output, *options, format=format)
    assert not output.exists() and not list(output.parent.glob(".export-*"))
    return str(caught.value)


@pytest.fixture(scope="module")
def exported(run: Path) -> tuple[Path, str]:
    """The file of the run, and what the command printed."""
    output = run / "new/model.pt2"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        command(run, output, "--evaluate")
    return output, printed.getvalue()


def test_the_file_of_a_run(exported: tuple[Path, str]) -> None:
    output, printed = exported
    assert [path.name for path in output.parent.iterdir()] == ["model.pt2"]
    runtime = open_model(output)
    assert (runtime.height, runtime.width, runtime.max_batch) == (48, 64, 1)
    assert runtime.spec.class_names == ("red", "green")
    assert runtime.info.compared_on == "32 images of drawings_val"
    assert re.search(r"^\| checkpoint +\|", printed, re.MULTILINE)


def test_the_lost_ap_is_that_of_the_file(run: Path) -> None:
    cfg = load_config(str(run / "config.yaml"), [])
    test = cfg.dataloader.test
    oracle, wrong = OracleDetector("drawings_val"), OracleDetector("drawings_val", shift=1)
    assert export.compare_ap(cfg, test, oracle, oracle) == 0
    assert export.compare_ap(cfg, test, oracle, wrong) > 50
    cfg.dataloader.evaluator = [None, L(DatasetEvaluators)(evaluators=[])]
    with pytest.raises(ConfigError, match=r"does not measure.\nFix: add CocoEvaluator"):
        export.compare_ap(cfg, test, oracle, oracle)


def test_the_predictor_finds_in_the_file_what_it_finds_in_the_run(
    run: Path, exported: tuple[Path, str]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    expected, found = (Predictor(source, threshold=0.1)(image) for source in (run, exported[0]))
    assert len(expected) > 0
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        found.pred_boxes.tensor, expected.pred_boxes.tensor, atol=1e-2, rtol=0
    )
    assert torch.equal(found.pred_classes, expected.pred_classes)


class Instant:
    """Replaces converting and writing: each export has the graph of `exported`, and is a JSON text.

    Attributes:
        score_error: by which the checkpoint's logits differ from the file's.
        calibration: what the command calibrates with.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.score_error = 0.0
        self.calibration = []

    def convert(self, detector: torch.nn.Module, info, suffix: str, calibration) -> None:
        raise_scores(detector, self.score_error)
        self.calibration = calibration

    def save(self, model: None, texts: dict[str, str], path: Path) -> None:
        path.write_text(json.dumps(texts))

    def open_model(self, path: Path) -> Runtime:
        assert path.is_file()
        return self._runtime


@pytest.fixture(scope="module")
def runtime(exported: tuple[Path, str]) -> Runtime:
    return open_model(exported[0])


@pytest.fixture
def instant(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> Instant:
    instant = Instant(runtime)
    for name in ("convert", "save", "open_model"):
        monkeypatch.setattr(export, name, getattr(instant, name))
    return instant


def graph_of(output: Path) -> dict:
    return json.loads(json.loads(output.read_text())["graph"])


def test_a_file_that_differs_is_deleted(run: Path, instant: Instant, tmp_path: Path) -> None:
    instant.score_error = 0.001
    message = refused(run, tmp_path / "model.pt2")
    assert "differs from the checkpoint" in message and "deleted" in message


def test_few_images_are_counted_with_a_warning(
    run: Path, instant: Instant, tmp_path: Path, caplog
) -> None:
    register_drawings("few_val", run / "few_val", images=3)
    command(run, tmp_path / "model.pt2", "dataloader.test.dataset.names=few_val")
    assert "few_val has only 3 images" in caplog.text
    assert graph_of(tmp_path / "model.pt2")["compared_on"] == "3 images of few_val"


def test_the_file_tells_how_many_images_were_left_out(
    run: Path, instant: Instant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    found = Parity(20, left_out=12, detections=99, unmatched=0, score_difference=0.0, iou=1.0)
    monkeypatch.setattr(export, "measure", lambda *arguments: found)
    command(run, tmp_path / "model.pt2")
    text = "20 images of drawings_val, 12 unstable ones left out"
    assert graph_of(tmp_path / "model.pt2")["compared_on"] == text
    assert text in capsys.readouterr().out
    found = dataclasses.replace(found, images=15, left_out=17)
    message = refused(run, tmp_path / "new/model.pt2")
    assert "unstable on 17 of 32 images" in message and "deleted" in message


def test_random_noise_must_be_allowed_and_is_told(
    run: Path, instant: Instant, tmp_path: Path
) -> None:
    no_data = "dataloader.test.dataset.names=nowhere_val"
    output, size = tmp_path / "model.pt2", ("--height", "48", "--width", "64")
    assert "--allow-random" in refused(run, output, *size, no_data)
    assert "--allow-random" in refused(run, output, *size, "--allow-random", "--evaluate", no_data)
    command(run, output, *size, "--allow-random", no_data)
    assert graph_of(output)["compared_on"] == "32 images of random noise"


def test_int8_may_lose_one_ap_unless_forced(
    run: Path, instant: Instant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, options = tmp_path / "model.onnx", ("--precision", "int8")
    monkeypatch.setattr(export, "compare_ap", lambda *arguments: loss)
    loss = 1.1
    message = refused(run, output, *options, format="onnx")
    assert "int8 loses 1.1 AP, expected at most 1" in message and "--force" in message
    command(run, output, *options, "--force", format="onnx")
    assert graph_of(output)["precision"] == "int8"
    output.unlink()
    loss = float("nan")  # nothing was measured
    assert "int8 loses nan AP" in refused(run, output, *options, format="onnx")
    loss = 0.9
    command(run, output, *options, format="onnx")
    assert output.is_file()
    assert len(instant.calibration) == 12  # all training images


def test_mistakes_name_their_fix(run: Path, tmp_path: Path, monkeypatch) -> None:
    assert "ends in .onnx" in refused(run, tmp_path / "m.pt2", format="onnx")
    assert "--format onnx" in refused(run, tmp_path / "m.pt2", "--precision", "fp16")
    assert "unknown config key" in refused(run, tmp_path / "m.pt2", "model.queries=3")
    assert "Fix: give both" in refused(run, tmp_path / "m.pt2", "--height", "96")
    no_data = "dataloader.test.dataset.names=nowhere_val"
    assert "--allow-random" in refused(run, tmp_path / "m.pt2", no_data)
    assert "--height" in refused(run, tmp_path / "m.pt2", "--allow-random", no_data)
    message = refused(run, tmp_path / "m.pt2", "--height", "64", "--width", "48")
    assert "Fix: --height 48 --width 64" in message
    (tmp_path / "m.bin").write_text("of somebody else")
    assert "would replace" in refused(run, tmp_path / "m.xml", format="openvino")
    assert "cannot write" in refused(run, tmp_path / "m.bin/m.pt2")
    monkeypatch.setitem(export.sys.modules, "onnxscript", None)
    message = refused(run, tmp_path / "m.onnx", format="onnx")
    assert "onnxscript" in message and "pip install -e '.[export]'" in message
