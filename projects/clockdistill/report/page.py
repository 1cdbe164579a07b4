"""Writes report.html of a run, and the page that compares several."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from omegaconf import DictConfig

from projects.clockdistill import __version__
from projects.clockdistill.engine.atomic import atomic_write
from projects.clockdistill.engine.config_file import as_yaml
from projects.clockdistill.errors import UserError
from projects.clockdistill.evaluation.diagnosis import Diagnosis
from projects.clockdistill.report import costs, curves, tables
from projects.clockdistill.report.evaluated import Evaluated, evaluate_detections
from projects.clockdistill.report.pictures import Picture, picture
from projects.clockdistill.report.run import REPORT, Run, find_teacher, find_undistilled, read_run
from projects.clockdistill.report.words import configuration

logger = logging.getLogger(__name__)

WORST_IMAGES = 8
_OVERALL, _SIZES = tables.OVERALL, tables.SIZES


def write_report(
    folder: str | Path, cfg: DictConfig | None = None, output: Path | None = None
) -> Path:
    """Writes a run's report and returns its path.

    Args:
        folder: `train.output_dir` of a run, finished or not.
        cfg: its config; by default that of its config.yaml.
        output: of the page; by default report.html in the folder.

    Raises:
        ConfigError: if the folder holds no run.
    """
    run = read_run(folder, cfg)
    path = output or run.folder / REPORT
    _write(path, "report.html.j2", _report(run))
    return path


def write_comparison(folders: Sequence[str | Path], path: Path) -> None:
    """Writes a page that compares runs.

    Args:
        folders: of the runs; differences are to the first.
        path: of the page.

    Raises:
        ConfigError: if a folder holds no run.
    """
    _write(path, "comparison.html.j2", _comparison([read_run(folder) for folder in folders]))


def _write(path: Path, template: str, content: Mapping[str, Any]) -> None:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template).render(
        version=__version__, written=f"{datetime.now():%Y-%m-%d %H:%M}", **content
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, "wb") as handle:
        # a file name may hold bytes that are no text
        handle.write(page.encode(errors="replace"))


def _evaluated(run: Run, worst: int) -> tuple[Evaluated | None, str]:
    """Returns what a run's detections show, or nothing and why."""
    try:
        return evaluate_detections(run, worst), ""
    except (UserError, OSError) as error:
        return None, str(error)
    except (LookupError, TypeError, ValueError) as error:  # a file of another program
        return None, f"the detections cannot be used ({type(error).__name__}: {error})"


def _report(run: Run) -> dict[str, Any]:
    teacher, undistilled = find_teacher(run), find_undistilled(run)
    evaluated, reason = _evaluated(run, WORST_IMAGES)
    runs = {run.name: run}
    if run.is_distillation:
        runs = {"teacher": teacher and teacher.run, "student": run}
        runs["undistilled"] = undistilled and undistilled.run
    runs = {label: one for label, one in runs.items() if one is not None}
    content = {
        "run": run,
        "verdict": _verdict(run, runs, evaluated),
        "labels": list(runs),
        "overall": tables.metric_rows(runs, _OVERALL),
        "sizes": tables.metric_rows(runs, _SIZES),
        "sources": [related.source for related in (teacher, undistilled) if related],
        "other_weights": _other_weights(run),
        "kitti": tables.kitti_table(run),
        "other_tasks": tables.other_tasks(run),
        "training": [*curves.loss_figures(run), *_ap_over_steps(run, runs)],
        "configuration": list(configuration(run)),
        "config_yaml": as_yaml(run.cfg),
        "parameters": _parameters(run),
        "costs": costs.costs(run),
        "evaluated": evaluated,
        "reason": reason,
    }
    if evaluated is None:
        return content
    names, diagnosis = list(evaluated.class_names.values()), evaluated.diagnosis
    return content | {
        "classes": tables.class_rows(diagnosis, names),
        "thresholds": curves.threshold_figures(diagnosis, names),
        "confusion": tables.confusion(diagnosis, names),
        "errors": tables.error_rows({"": diagnosis}),
        "pictures": _pictures(evaluated),
    }


def _other_weights(run: Run) -> str:
    """Returns which other weights predict.py and export.py take, or ""."""
    best, steps = run.best, run.evaluated_steps
    if best is None or steps is None or best["steps"] == steps:
        return ""
    return (
        f"All figures are of the last evaluation, after {steps:,} steps. tools/predict.py and "
        f"tools/export.py take model_best.pth, of {best['steps']:,} steps: {best['metric']} "
        f"{best['value']:.1f}"
    )


def _ap_over_steps(run: Run, runs: Mapping[str, Run]) -> list[curves.Drawn]:
    """Draws the run first, so that it has the first colour."""
    mine = next(label for label, one in runs.items() if one is run)
    return curves.ap_figure({mine: run} | {k: v for k, v in runs.items() if v is not run})


def _parameters(run: Run) -> list[tuple[str, str]]:
    parts = ("student", "teacher") if run.is_distillation else ("",)
    counts = [(part, costs.count_parameters(run, part)) for part in parts]
    return [
        (f"parameters of the {part}" if part else "parameters", f"{count:,}")
        for part, count in counts
        if count
    ]


def _pictures(evaluated: Evaluated) -> list[Picture]:
    pictures, problems = [], []
    for image in evaluated.worst:
        try:
            pictures.append(picture(image, evaluated.class_names))
        except (OSError, ValueError) as error:
            problems.append(error)
    if problems:
        logger.warning("%d images are not in the report: %s", len(problems), problems[0])
    return pictures


def _verdict(run: Run, runs: Mapping[str, Run], evaluated: Evaluated | None) -> str:
    """Returns what a run reached, in one or two sentences."""
    ap = curves.finite(run.metrics.get("AP"))
    if ap is None:
        done = f"after {run.steps:,} steps" if run.steps else "yet"
        return f"No AP has been measured {done}."
    subject = "The student" if run.is_distillation else "The detector"
    text = f"{subject} reaches {ap:.1f} AP on {run.test_data}"
    others = {
        label: curves.finite(one.metrics.get("AP")) for label, one in runs.items() if one is not run
    }
    plain, teacher = others.get("undistilled"), others.get("teacher")
    if plain is not None:
        text += f"; without distillation it reaches {plain:.1f}, a difference of {ap - plain:+.1f}"
    if teacher is not None:
        text += f"; its teacher reaches {teacher:.1f}"
    text += "."
    overall = evaluated.diagnosis.overall if evaluated else None
    if overall is not None and overall.best is not None:
        recall, precision = overall.recall[overall.best], overall.precision[overall.best]
        text += (
            f" At the threshold {evaluated.diagnosis.threshold:.2f}, where F1 is highest, it finds "
            f"{recall:.0%} of the objects, and {precision:.0%} of its detections "
            "are right."
        )
    return text


def _comparison(runs: Sequence[Run]) -> dict[str, Any]:
    counted = Counter(run.name for run in runs)
    labels = [run.name if counted[run.name] == 1 else str(run.folder) for run in runs]
    by_label = dict(zip(labels, runs, strict=True))
    diagnoses: dict[str, Diagnosis] = {}
    notes = []
    for label, run in by_label.items():
        evaluated, reason = _evaluated(run, worst=0)
        if evaluated is not None:
            diagnoses[label] = evaluated.diagnosis
        notes += [f"{label}: {text}" for text in (reason, evaluated and evaluated.warning) if text]
    data = {run.test_data for run in runs}
    if len(data) > 1:
        notes.append(f"The runs were tested on different data: {', '.join(sorted(data))}.")
    return {
        "runs": by_label,
        "rows": [
            (label, run, [curves.finite(run.metrics.get(m)) for m in (*_OVERALL, *_SIZES)])
            for label, run in by_label.items()
        ],
        "metrics": [*_OVERALL, *(f"AP {size}" for size in _SIZES.values())],
        "cost_rows": [(label, costs.as_row(run)) for label, run in by_label.items()],
        "curves": [*curves.ap_figure(by_label), *curves.total_loss_figure(by_label)],
        "class_rows": tables.class_differences(by_label),
        "diagnosed": list(diagnoses),
        "errors": tables.error_rows(diagnoses) if diagnoses else [],
        "notes": notes,
        "configuration": _differences(by_label),
    }


def _differences(runs: Mapping[str, Run]) -> list[tuple[str, list[str]]]:
    """Returns the terms of the configuration in which runs differ."""
    same = {"student": "detector"}  # what is evaluated has one row
    words = [
        {same.get(term, term): text for term, text in configuration(run)} for run in runs.values()
    ]
    terms = dict.fromkeys(term for one in words for term in one)
    rows = [(term, [one.get(term, "-") for one in words]) for term in terms]
    return [(term, cells) for term, cells in rows if len(set(cells)) > 1]
