"""Tests tools/predict.py from end to end, on a tiny DINO with random weights."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import predict
import pytest
import torch
from hotcoco import COCO
from PIL import Image

from projects.clockdistill import Predictor
from projects.clockdistill.deployment.video import VideoReader
from projects.clockdistill.engine.config_file import load_config
from tests.tiny_predictor import write_run
from tests.tiny_run import PLAIN, tiny_overrides

THRESHOLD = 0.2


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder, in a working directory with pictures/000.png to 003.png and no output."""
    folder = write_run(load_config(PLAIN, tiny_overrides(tmp_path)))
    (tmp_path / "pictures").mkdir()
    for index in range(4):
        shutil.copy(tmp_path / f"drawings_val/00{index}.png", tmp_path / "pictures")
    monkeypatch.chdir(tmp_path)
    return folder


def detect(run: Path, *arguments: object) -> None:
    predict.main(["--run", str(run), "--threshold", str(THRESHOLD), *map(str, arguments)])


def refused(*arguments: object) -> str:
    with pytest.raises(SystemExit) as caught:
        predict.main([str(argument) for argument in arguments])
    message = str(caught.value)
    assert len(message.splitlines()) <= 3
    return message


def results(folder: Path | str = "predictions") -> dict:
    return json.loads((Path(folder) / "predictions.json").read_text())


def files(folder: Path | str) -> set[str]:
    paths = Path(folder).rglob("*")
    return {path.relative_to(folder).as_posix() for path in paths if path.is_file()}


def write_video(path: Path, size: tuple[int, int] = (48, 64), count: int = 5) -> None:
    codec = cv2.VideoWriter.fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), codec, 12.5, size[::-1])
    for index in range(count):
        writer.write(np.full((*size, 3), (200, 60, 10 * index), np.uint8))
    writer.release()


def test_pictures_become_pictures_coco_json_and_kitti_files(run, capsys) -> None:
    detect(run, "pictures", "pictures/000.png", "--kitti")
    names = {f"00{index}" for index in range(4)}
    assert files("predictions") == {
        "predictions.json",
        *(f"{name}.png" for name in names),
        *(f"kitti/{name}.txt" for name in names),
    }
    content = results()
    ids = {image["file_name"]: image["id"] for image in content["images"]}
    assert ids == {f"00{index}.png": index + 1 for index in range(4)}
    assert all((image["width"], image["height"]) == (64, 48) for image in content["images"])
    assert [category["name"] for category in content["categories"]] == ["red", "green"]
    assert len(COCO("predictions/predictions.json").anns) == len(content["annotations"])

    predictor = Predictor(run, threshold=THRESHOLD)
    total = 0
    for name in names:
        source = Image.open(f"pictures/{name}.png")
        drawn = Image.open(f"predictions/{name}.png")
        found = predictor(source)
        total += len(found)
        assert drawn.size == source.size
        assert (np.asarray(drawn) != np.asarray(source.convert("RGB"))).any() == (len(found) > 0)
        of_image = [a for a in content["annotations"] if a["image_id"] == ids[f"{name}.png"]]
        lines = Path(f"predictions/kitti/{name}.txt").read_text().splitlines()
        assert len(of_image) == len(lines) == len(found)
        for annotation, line, box, score, label in zip(
            of_image,
            lines,
            found.pred_boxes.tensor.tolist(),
            found.scores.tolist(),
            found.pred_classes.tolist(),
            strict=True,
        ):
            left, top, right, bottom = box
            assert annotation["bbox"] == pytest.approx([left, top, right - left, bottom - top])
            assert annotation["score"] == pytest.approx(score)
            assert annotation["category_id"] == label
            assert line == (
                f"{('red', 'green')[label]} -1 -1 -10 {left:.2f} {top:.2f} {right:.2f} "
                f"{bottom:.2f} -1 -1 -1 -1000 -1000 -1000 -10 {score:.4f}"
            )
    assert total > 0
    out = capsys.readouterr().out
    assert f"{total} detections of score 0.2 or more in 4 images" in out
    assert "images per second" in out


def test_video_keeps_frames_rate_and_size(run, caplog) -> None:
    write_video(Path("clip.avi"))
    with caplog.at_level("INFO"):
        detect(run, "clip.avi", "--kitti", "--threshold", 0.9)
    assert "mp4v, 64 x 48, 12.5 frames/s" in caplog.text
    reader = VideoReader(Path("predictions/clip.avi.mp4"))
    assert reader.frames_per_second == pytest.approx(12.5)
    frames = list(reader)
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 5
    # where nothing is drawn, the colours are those of the source up to the codecs' losses
    for index, frame in enumerate(frames):
        np.testing.assert_allclose(np.median(frame, (0, 1)), (200, 60, 10 * index), atol=12)
    assert [image["frame"] for image in results()["images"]] == [0, 1, 2, 3, 4]
    assert {image["file_name"] for image in results()["images"]} == {"clip.avi"}
    assert {f"kitti/clip.avi/{index:06d}.txt" for index in range(5)} < files("predictions")


def test_files_that_cannot_be_used_are_named_and_the_others_go_on(run, caplog) -> None:
    Path("pictures/broken.png").write_text("no picture")
    whole = Path("pictures/003.png").read_bytes()
    Path("pictures/003.png").write_bytes(whole[: len(whole) // 2])
    Path("pictures/broken.avi").write_text("no video")
    Image.new("RGB", (8, 8)).save("pictures/tiny.png")
    message = refused("--run", run, "pictures")
    assert message == "error: 4 of 7 files could not be used; see above"
    for name in ("broken.png", "broken.avi", "003.png", "tiny.png"):
        assert f"pictures/{name}" in caplog.text
    assert {image["file_name"] for image in results()["images"]} == {
        "000.png",
        "001.png",
        "002.png",
    }
    assert files("predictions") == {"000.png", "001.png", "002.png", "predictions.json"}


def test_animations_and_pages_are_refused_rather_than_read_in_part(run, caplog) -> None:
    pages = [Image.open(f"pictures/00{index}.png").convert("RGB") for index in range(3)]
    for name in ("moving.gif", "moving.webp", "pages.tiff"):
        pages[0].save(f"pictures/{name}", save_all=True, append_images=pages[1:])
    # cameras write a preview behind the picture: this is one picture
    pages[0].save("pictures/camera.jpg", "MPO", save_all=True, append_images=pages[1:2])
    assert "3 of 8 files" in refused("--run", run, "pictures")
    for name in ("moving.gif", "moving.webp", "pages.tiff"):
        assert f"pictures/{name} holds 3 pictures" in caplog.text
    assert len(results()["images"]) == 5
    with pytest.raises(ValueError, match="holds 3 pictures"):
        Predictor(run)("pictures/moving.gif")


def test_weights_with_nan_are_refused(run) -> None:
    path = run / "model_final.pth"
    content = torch.load(path)
    next(iter(content["model"].values())).view(-1)[0] = float("nan")
    torch.save(content, path)
    assert "values that are not finite" in refused("--run", run, "pictures")
    assert not Path("predictions").exists()


def test_equal_names_do_not_replace_each_other(run) -> None:
    shutil.copytree("pictures", "others")
    Image.open("pictures/000.png").save("others/000.jpg")
    detect(run, "pictures/000.png", "others/000.png", "others/000.jpg", "--kitti")
    assert files("predictions") == {
        "predictions.json",
        "pictures/000.png",
        "others/000.png",
        "others/000.jpg",
        "kitti/pictures/000.txt",
        "kitti/others/000.png.txt",
        "kitti/others/000.jpg.txt",
    }
    assert len({image["file_name"] for image in results()["images"]}) == 3


def test_inputs_are_never_replaced(run) -> None:
    before = Path("pictures/000.png").read_bytes()
    assert "would replace the input" in refused("--run", run, "pictures", "--output", "pictures")
    assert Path("pictures/000.png").read_bytes() == before
    assert not Path("pictures/predictions.json").exists()


def test_globs_reach_any_folder(run) -> None:
    Path("deep/er").mkdir(parents=True)
    Image.open("pictures/000.png").convert("P").save("deep/er/x.GIF")
    detect(run, "deep/**/*", "--output", "out/new")
    assert files("out/new") == {"x.GIF.png", "predictions.json"}


def test_mistakes_are_explained_before_any_work(run, capsys) -> None:
    assert "no picture or video found: nowhere" in refused("--run", run, "nowhere")
    Path("empty").mkdir()
    assert "no picture or video found: empty" in refused("--run", run, "pictures", "empty")
    assert "is not a folder" in refused("--run", "nowhere", "pictures")
    Path("taken").touch()
    assert "cannot write" in refused("--run", run, "pictures", "--output", "taken")
    assert "cannot write" in refused("--run", run, "pictures", "--output", "taken/new")
    assert "threshold 50.0 is not a score" in refused("--run", run, "pictures", "--threshold", 50)
    assert "--config-file nowhere.py" in refused(
        "--config-file", "nowhere.py", "--weights", "x", "pictures"
    )
    for arguments, message in (
        (("--config-file", PLAIN, "pictures"), "--config-file and --weights belong together"),
        (("--run", run, "--weights", "x", "pictures"), "belong together"),
        (("pictures",), "one of the arguments --run --config-file --model is required"),
    ):
        refused(*arguments)
        assert message in capsys.readouterr().err
    assert not Path("predictions").exists()
