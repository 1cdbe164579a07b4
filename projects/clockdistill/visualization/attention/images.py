"""Attention maps of picture files: detectors to load, pictures to read and figures to write."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from projects.clockdistill.deployment.images import detector_input, read_image
from projects.clockdistill.deployment.inputs import Input, require_one_picture
from projects.clockdistill.deployment.loading import (
    choose_device,
    find_run,
    load_detector,
    load_teacher_detector,
)
from projects.clockdistill.deployment.model_spec import ModelSpec
from projects.clockdistill.deployment.predictor import EXPORTED
from projects.clockdistill.engine.config_file import load_config
from projects.clockdistill.errors import UserError
from projects.clockdistill.visualization.attention.figure import Row, save_figure
from projects.clockdistill.visualization.attention.reading import family_of, read
from projects.clockdistill.visualization.attention.rows import attention_rows, feature_rows
from projects.clockdistill.visualization.attention.subjects import Column, View


@dataclass(frozen=True)
class Detector:
    """A detector of the figures.

    Attributes:
        title: names it.
        model: in eval mode.
        spec: its classes and input.
    """

    title: str
    model: nn.Module
    spec: ModelSpec


def load_detectors(
    source: str,
    weights: str | None,
    *,
    compared: Sequence[tuple[str, str]] = (),
    device: str | None = None,
) -> list[Detector]:
    """Loads a run's detector, its teacher if it has one, and those of further runs.

    Args:
        source: a run folder; with `weights` a config.
        weights: of the config's detector.
        compared: title and run folder of each further detector.
        device: of torch; by default an accelerator if there is one.

    Raises:
        UserError: if one cannot be loaded, or its attention cannot be read.
    """
    device = choose_device(device)
    for folder in (source, *(folder for _, folder in compared)):
        if Path(folder).suffix in EXPORTED:
            raise UserError(
                f"{folder} is an exported file, of which attention cannot be read.\n"
                "Fix: name the folder of the run that it was exported from"
            )
    cfg, file = find_run(source) if weights is None else (load_config(source, []), weights)
    is_student = "student" in cfg.get("model", {})
    title = "student" if is_student else Path(source).resolve().stem
    found = [Detector(title, *load_detector(cfg, file, device))]
    teacher = load_teacher_detector(cfg, device)
    if teacher is not None:
        found.append(Detector("teacher", *teacher))
    for name, folder in compared:
        found.append(Detector(name, *load_detector(*find_run(folder), device)))
    for detector in found:
        family_of(detector.model)  # refuses others before any picture is read
    return found


def output_files(
    folder: Path, inputs: Sequence[Input], what: Mapping[str, Any], *, features: bool
) -> list[Path]:
    """Returns the figure's file of each input, named after the input and what is shown.

    Args:
        folder: where they go.
        inputs: pictures.
        what: attributes of the `View`; None for those that are not given.
        features: whether energy maps are shown.

    Raises:
        UserError: if an input is a video, or would be replaced.
    """
    ending = "features" if features else "attention"
    for name in ("detection", "query", "layer", "head", "level", "each"):
        if what[name] is not None:
            ending += f"_{name}_{what[name] or 'all'}"
    if what["point_px"] is not None:
        ending += "_point_{:g}_{:g}".format(*what["point_px"])
    stems = Counter(Path(item.name).with_suffix("") for item in inputs)
    files = []
    for item in inputs:
        if item.is_video:
            raise UserError(f"{item.path} is a video. Fix: name pictures, such as its frames")
        stem = Path(item.name).with_suffix("")
        files.append(folder / f"{stem if stems[stem] == 1 else item.name}_{ending}.png")
    paths = {item.path.resolve() for item in inputs}
    for path in files:
        if path.resolve() in paths:
            raise UserError(f"the input {path} would be replaced. Fix: use another output folder")
    return files


def draw_image(
    detectors: Sequence[Detector], view: View, item: Input, path: Path, *, features: bool
) -> list[Row]:
    """Draws one picture's figure and returns its rows.

    Args:
        detectors: one for each column.
        view: what to look at.
        item: the picture, resized for each detector as its predictions are made.
        path: the file to write; its folder is created.
        features: draw energy maps of neck and memory instead of attention.

    Raises:
        UserError: if the picture cannot be read, or the view names what there is not.
    """
    require_one_picture(item.path)
    image = read_image(item.path)
    columns = []
    for detector in detectors:
        inputs = detector_input(image, detector.spec.input_size(*image.shape[:2]))
        reading = read(detector.model, [inputs])
        columns.append(Column(detector.title, detector.spec.class_names, reading))
    rows = (feature_rows if features else attention_rows)(columns, view, image.shape[:2])
    path.parent.mkdir(parents=True, exist_ok=True)
    save_figure(path, item.name, image, rows)
    return rows
