"""Detect objects in pictures and videos.

    python tools/predict.py --run output/dino_r18_kitti pictures/ clip.avi
    python tools/predict.py --config-file CONFIG --weights student.pth 'kitti/*.png' --kitti
    python tools/predict.py --model student.onnx picture.jpg --threshold 0.3

Writes each picture and video (as MP4) with its boxes, predictions.json in COCO's format (image
ids count from 1, its "images" give their file names; frames of a video are images) and on request
KITTI result files. Files of an earlier call are replaced, inputs never.
"""

import argparse
import logging
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

# run as a script, only tools/ is on the path
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import projects.clockdistill  # noqa: F401  before detectron2: silences a warning of its import

# isort: split
import numpy as np
from detectron2.structures import Instances
from PIL import Image
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from projects.clockdistill.deployment.images import read_image
from projects.clockdistill.deployment.inputs import Input, find_inputs, require_one_picture
from projects.clockdistill.deployment.predictor import Predictor
from projects.clockdistill.deployment.results import CocoResults, kitti_lines, require_folder
from projects.clockdistill.deployment.video import VideoReader, VideoWriter
from projects.clockdistill.engine.arguments import one_line_errors, tool_parser
from projects.clockdistill.errors import UserError
from projects.clockdistill.visualization.detections import draw_detections

logger = logging.getLogger("projects.clockdistill.predict")

_WRITTEN_AS_THEY_ARE = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


class Outputs:
    """Where the results of each input go: its own name below the output folder.

    Args:
        folder: the output folder.
        inputs: all of them.

    Raises:
        UserError: if an output would replace an input.
    """

    def __init__(self, folder: Path, inputs: Sequence[Input]) -> None:
        self.json = folder / "predictions.json"
        self._folder = folder
        self._stems = Counter(Path(item.name).with_suffix("") for item in inputs)
        files = {item.path.resolve() for item in inputs}
        drawn = [self.drawn(item) for item in inputs]
        results = [self.kitti(item, None) for item in inputs]
        for path, number in Counter([*drawn, *results]).items():
            if number > 1:
                raise UserError(
                    f"{number} inputs would be written to {path}.\nFix: give them in several "
                    "calls, each with an --output of its own"
                )
        for path in (self.json, *drawn, *results):
            if path.resolve() in files:
                raise UserError(
                    f"--output {folder} would replace the input {path}.\nFix: name another folder"
                )

    def drawn(self, item: Input) -> Path:
        """Returns the file of an input with its boxes."""
        kept = (".mp4",) if item.is_video else _WRITTEN_AS_THEY_ARE
        added = "" if item.path.suffix.lower() in kept else ".mp4" if item.is_video else ".png"
        return self._folder / f"{item.name}{added}"

    def kitti(self, item: Input, frame: int | None) -> Path:
        """Returns the KITTI result file of a picture, or of a frame of a video."""
        name = Path(item.name)
        if frame is not None:
            return self._folder / "kitti" / name / f"{frame:06d}.txt"
        alone = self._stems[name.with_suffix("")] == 1
        return self._folder / "kitti" / (name.with_suffix(".txt") if alone else f"{name}.txt")


class Run:
    """One call of the program.

    Args:
        predictor: detects.
        outputs: where results go.
        kitti: whether to write KITTI result files.
    """

    def __init__(self, predictor: Predictor, outputs: Outputs, *, kitti: bool) -> None:
        self.seconds: list[float] = []  # of the detector, per picture or frame
        self.detections = 0
        self.results = CocoResults(predictor.spec)
        self._predictor = predictor
        self._outputs = outputs
        self._kitti = kitti

    def picture(self, item: Input) -> None:
        """Detects in a picture and writes what was found."""
        require_one_picture(item.path)
        image = read_image(item.path)
        drawn = self._drawn(image, item)
        path = self._outputs.drawn(item)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn).save(path, quality=95)

    def video(self, item: Input) -> None:
        """Detects in every frame of a video and writes it as MP4."""
        path = self._outputs.drawn(item)
        path.parent.mkdir(parents=True, exist_ok=True)
        reader = VideoReader(item.path)
        with (
            VideoWriter(path, reader.frames_per_second) as writer,
            tqdm(reader, item.name, reader.frames, unit="frame", disable=None) as frames,
        ):
            for number, frame in enumerate(frames):
                drawn = self._drawn(read_image(frame), item, number)
                writer.write(drawn[:, :, ::-1])

    def _drawn(self, image: np.ndarray, item: Input, frame: int | None = None) -> np.ndarray:
        """Detects in an RGB image, records what was found and returns the image with boxes."""
        start = time.perf_counter()
        found: Instances = self._predictor(image[:, :, ::-1])
        self.seconds.append(time.perf_counter() - start)
        self.detections += len(found)
        self.results.add(item.name, found, frame)
        spec = self._predictor.spec
        if self._kitti:
            path = self._outputs.kitti(item, frame)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(kitti_lines(found, spec))
        boxes, labels = found.pred_boxes.tensor.tolist(), found.pred_classes.tolist()
        return draw_detections(image, boxes, labels, found.scores.tolist(), spec.class_names)


def run_all(run: Run, inputs: Sequence[Input]) -> int:
    """Carries out a run; names files that cannot be used, and returns their number."""
    failed = 0
    with logging_redirect_tqdm(), tqdm(inputs, "files", unit="file", disable=None) as files:
        for item in files:
            try:
                (run.video if item.is_video else run.picture)(item)
            # also what a runtime, a device or a full disk reports: the other files go on
            except (OSError, ValueError, RuntimeError, ArithmeticError) as error:
                is_named = str(item.path) in str(error)
                logger.error("%s", error if is_named else f"{item.path}: {error}")
                failed += 1
    return failed


def summary(run: Run, seconds: float, threshold: float) -> str:
    """Returns what was found, and how fast."""
    count = len(run.seconds)
    # the first call loads or compiles what the others use
    counted = run.seconds[1:] or run.seconds
    return (
        f"{run.detections} detections of score {threshold:g} or more in {count} images\n"
        f"images per second: {len(counted) / sum(counted):.2f} of the detector (the first image "
        f"not counted), {count / seconds:.2f} of all, with reading, drawing and writing"
    )


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = tool_parser(__doc__)
    sources = parser.add_mutually_exclusive_group(required=True)
    sources.add_argument("--run", metavar="DIR", help="folder of a run: its config, best weights")
    sources.add_argument("--config-file", metavar="FILE", help="config, with --weights")
    sources.add_argument("--model", metavar="FILE", help="exported .onnx, OpenVINO .xml or .pt2")
    parser.add_argument("--weights", metavar="FILE", help="weights of the config's detector")
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="picture, video, folder or glob")
    parser.add_argument(
        "--output", type=Path, default=Path("predictions"), metavar="DIR", help="predictions"
    )
    parser.add_argument("--threshold", type=float, metavar="SCORE", help="lowest score shown: 0.5")
    parser.add_argument("--kitti", action="store_true", help="also write KITTI result files")
    parser.add_argument("--device", help="of torch; default: an accelerator, or the CPU")
    arguments = parser.parse_args(argv)
    if (arguments.config_file is None) != (arguments.weights is None):
        parser.error("--config-file and --weights belong together")
    if arguments.model and arguments.device:
        parser.error("--device belongs to torch; a --model runs on the CPU")
    return arguments


def predict(arguments: argparse.Namespace) -> None:
    """Detects in all inputs and writes what was found."""
    inputs = find_inputs(arguments.inputs)
    outputs = Outputs(arguments.output, inputs)
    require_folder(arguments.output)
    predictor = Predictor(
        arguments.run or arguments.model or arguments.config_file,
        arguments.weights,
        threshold=arguments.threshold,
        device=arguments.device,
    )
    arguments.output.mkdir(parents=True, exist_ok=True)
    run = Run(predictor, outputs, kitti=arguments.kitti)
    start = time.perf_counter()
    try:
        failed = run_all(run, inputs)
    finally:
        run.results.write(outputs.json)  # also after Ctrl-C
    if run.seconds:
        print(summary(run, time.perf_counter() - start, predictor.threshold))
        print(f"pictures, videos and {outputs.json.name}: {arguments.output}")
    if failed:
        raise UserError(f"{failed} of {len(inputs)} files could not be used; see above")


def main(argv: list[str] | None = None) -> None:
    """Runs the command line."""
    arguments = parse(argv)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("projects.clockdistill").setLevel(logging.INFO)
    what_is_left = f"interrupted; {arguments.output} has what was found"
    with one_line_errors(arguments.debug, what_is_left):
        predict(arguments)


if __name__ == "__main__":
    main()
