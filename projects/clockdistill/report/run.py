"""What a run's folder holds."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from projects.clockdistill.deployment.loading import run_config
from projects.clockdistill.engine import metrics_file
from projects.clockdistill.engine.config_file import ROOT, ConfigError, as_yaml

REPORT = "report.html"
DETECTIONS = "inference/coco_instances_results.json"  # of the last evaluation


@dataclass(frozen=True)
class Run:
    """A folder that `tools/train_net.py` wrote.

    Attributes:
        folder: `train.output_dir`.
        cfg: the whole config.
        lines: of metrics.json; none if the run only evaluated.
        results: {task: {metric: percent, None where there is none}}; empty without an evaluation.
    """

    folder: Path
    cfg: DictConfig
    lines: Sequence[dict[str, Any]]
    results: dict[str, dict[str, float | None]]

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.resolve().name

    @property
    def metrics(self) -> dict[str, float | None]:
        """COCO's figures of the last evaluation, in percent."""
        return self.results.get("bbox") or {}

    @property
    def is_distillation(self) -> bool:
        """Whether there is a teacher."""
        return "student" in self.cfg.model

    @property
    def steps(self) -> int:
        """Training steps that were logged."""
        return self.lines[-1]["iteration"] + 1 if self.lines else 0

    @cached_property
    def detector(self) -> dict[str, Any]:
        """Config of the detector that is evaluated, as plain values."""
        return self.part("student" if self.is_distillation else "")

    def part(self, key: str) -> dict[str, Any]:
        """Returns a part of the model's config as plain values, all interpolations resolved."""
        node = OmegaConf.select(self.cfg, f"model.{key}" if key else "model")
        return OmegaConf.to_container(node, resolve=True)

    def select(self, key: str, default: Any = None) -> Any:
        """Returns a value of the config, or the default where it has none."""
        value = OmegaConf.select(self.cfg, key)
        return default if value is None else value

    @property
    def test_data(self) -> str:
        """The names of the test data."""
        names = self.select("dataloader.test.dataset.names", "unknown data")
        return ", ".join(names) if isinstance(names, ListConfig) else str(names)

    @property
    def evaluated_steps(self) -> int | None:
        """The steps after which the last evaluation was; None if none was logged."""
        steps = [line["iteration"] + 1 for line in self.lines if any("/" in key for key in line)]
        return max(steps, default=None)

    @property
    def best(self) -> dict[str, Any] | None:
        """What model_best.json says of model_best.pth: metric, value and steps."""
        try:
            return json.loads((self.folder / "model_best.json").read_text())
        except (OSError, ValueError):
            return None

    @property
    def evaluated_files(self) -> list[str]:
        """The names of the checkpoints that hold the weights of the last evaluation."""
        steps = self.evaluated_steps
        if steps is None:  # an evaluation alone
            return [Path(str(self.select("train.init_checkpoint", ""))).name]
        names = [f"model_{steps - 1:07d}.pth"]
        if self.steps == steps:
            names.append("model_final.pth")
        if (self.best or {}).get("steps") == steps:
            names.append("model_best.pth")
        return names

    def logged(self, metric: str) -> tuple[list[int], list[float]]:
        """Returns the steps after which a metric was logged, and its values."""
        lines = [line for line in self.lines if _is_finite(line.get(metric))]
        return [line["iteration"] + 1 for line in lines], [line[metric] for line in lines]


def read_run(folder: str | Path, cfg: DictConfig | None = None) -> Run:
    """Reads a run's folder.

    Args:
        folder: `train.output_dir` of a run.
        cfg: its config; by default that of its config.yaml.

    Raises:
        ConfigError: if there is no such folder or config, or the config cannot be read.
    """
    folder = Path(folder)
    # a config that was passed becomes as a saved one, to compare it with others
    cfg = run_config(folder) if cfg is None else OmegaConf.create(as_yaml(cfg))
    if not (isinstance(cfg.get("model"), DictConfig) and isinstance(cfg.get("train"), DictConfig)):
        raise ConfigError(f"the config of {folder} has no model or train. Fix: name another run")
    return Run(folder, cfg, metrics_file.read(folder / "metrics.json"), _read_results(folder))


def _read_results(folder: Path) -> dict[str, dict[str, float | None]]:
    """Returns the content of results.json; {} if there is none, or another program's."""
    try:
        content = json.loads((folder / "results.json").read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


# What a student trains with besides its data; a difference is named.
_SAME_TRAINING = ("train.init_checkpoint", "dataloader.train.total_batch_size", "optimizer.lr")


@dataclass(frozen=True)
class Related:
    """Another run to compare a distilled student with.

    Attributes:
        run: that run.
        source: where its figures come from, in words.
    """

    run: Run
    source: str


def find_teacher(run: Run) -> Related | None:
    """Finds the evaluation of a distillation run's teacher on the same test data.

    Candidates are the folder of the teacher's checkpoint and the folders next to the run in which
    this checkpoint was evaluated.
    """
    checkpoint = run.select("model.teacher_checkpoint", "")
    if not checkpoint:
        return None
    wanted = _absolute(checkpoint)
    found = [
        other
        for other in _neighbours(run)
        if not other.lines and _absolute(other.select("train.init_checkpoint", "")) == wanted
    ]
    if (home := _try_read(wanted.parent)) is not None:
        found.append(home)
    found = [
        other
        for other in found
        if not other.is_distillation
        and other.test_data == run.test_data
        and _comparable(other.detector) == _comparable(run.part("teacher"))
    ]
    related = _newest(run, found, "Teacher", "an evaluation of the same checkpoint")
    if related and related.run is home and wanted.name not in home.evaluated_files:
        what = f"the last evaluation of the run that wrote {wanted.name}, of other weights"
        return _newest(run, [home], "Teacher", what)
    return related


def find_undistilled(run: Run) -> Related | None:
    """Finds a run next to a distillation run that trained the same student without a teacher.

    The labelled training data is the same; what else differs is said.
    """
    if not run.is_distillation:
        return None
    found = [
        other
        for other in _neighbours(run)
        if other.lines
        and not other.is_distillation
        and other.test_data == run.test_data
        and other.select("dataloader.train.dataset") == run.select("dataloader.train.dataset")
        and _comparable(other.detector) == _comparable(run.detector)
    ]
    # with several seeds or schedules, the one that differs least
    found = [o for o in found if _schedule(o) == _schedule(run)] or found
    related = _newest(
        run, found, "Undistilled student", "the same student trained without a teacher"
    )
    if related is None:
        return None
    source, other = related.source, related.run
    if other.steps != run.steps:
        source += f", for {other.steps:,} steps"
    source += "".join(
        f", with {key}={other.select(key)}"
        for key in _SAME_TRAINING
        if other.select(key) != run.select(key)
    )
    return Related(other, source)


def _schedule(run: Run) -> tuple[int, Any]:
    return run.steps, run.select("train.seed")


def _neighbours(run: Run) -> list[Run]:
    """Returns the evaluated runs without a teacher next to a run, and those of `baselines/`."""
    here = run.folder.resolve()
    # the configs of methods and ablations write to folders of their own next to baselines/
    places = (here.parent, here.parent / "baselines", here.parent.parent / "baselines")
    folders = sorted({config.parent for place in places for config in place.glob("*/config.yaml")})
    runs = [_try_read(folder) for folder in folders if folder != here]
    return [other for other in runs if other is not None]


def _try_read(folder: Path) -> Run | None:
    """Returns a run without a teacher that was evaluated; None for any other folder."""
    if not (folder / "results.json").is_file():
        return None
    try:
        # there may be hundreds of runs: most are told apart without parsing
        if "teacher_checkpoint:" in (folder / "config.yaml").read_text(errors="replace"):
            return None
        run = read_run(folder)
    except (OSError, ValueError):
        return None
    return run if run.metrics.get("AP") is not None else None


def _newest(of: Run, runs: list[Run], name: str, what: str) -> Related | None:
    if not runs:
        return None
    run = max(runs, key=lambda run: (run.folder / "results.json").stat().st_mtime)
    several = f", the newest of {len(runs)}" if len(runs) > 1 else ""
    place = os.path.relpath(run.folder.resolve(), of.folder.resolve())
    return Related(run, f"{name}: figures of {place}, {what}{several}")


def _absolute(path: str) -> Path:
    """Returns the absolute path of a checkpoint, which is relative to where the run started."""
    here = Path(path).expanduser()
    return here.resolve() if here.exists() else (ROOT / here).resolve()


def _comparable(detector: Any) -> Any:
    """Returns a detector's config without what decides neither its size nor its results."""
    if isinstance(detector, dict):
        left_out = ("criterion", "aux_loss")
        return {key: _comparable(value) for key, value in detector.items() if key not in left_out}
    return [_comparable(value) for value in detector] if isinstance(detector, list) else detector
