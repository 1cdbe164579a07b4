"""Tiny training runs in forked processes, which start without imports and can be killed."""

import contextlib
import logging
import mmap
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import projects.clockdistill  # noqa: F401  before detectron2: silences a warning of its import

# isort: split
import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image, ImageDraw

from projects.clockdistill.engine.checkpoint import DetectorCheckpointer
from projects.clockdistill.engine.evaluate import Evaluation
from projects.clockdistill.engine.hooks import MetricWriters
from projects.clockdistill.report import page  # noqa: F401  train_net imports it when a run ends
from tools import train_net

TEACHER = "mini/teachers/dino_r50_synthkitti.py"
STUDENT = "mini/dino_r18_synthkitti.py"
COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60)}
# What a process is busy with: these calls, or else a step.
PHASES = ("step", "loading", "saving", "evaluation", "metrics")
_CALLS = (
    ("loading", torch.utils.data.dataloader._BaseDataLoaderIter, "__next__"),
    ("saving", DetectorCheckpointer, "save"),
    ("saving", DetectorCheckpointer, "save_weights"),
    ("evaluation", Evaluation, "__call__"),
    ("metrics", MetricWriters, "after_step"),
)
STEPS = 12
PATIENCE = 120  # seconds until a run counts as hanging


def draw_data(name: str, folder: Path, images: int, seed: int) -> None:
    """Draws images of up to two squares, wide and tall ones, and registers them."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    records = []
    for index in range(images):
        width, height = (48, 64) if index % 3 == 2 else (64, 48)
        picture = Image.fromarray(rng.integers(90, 130, (height, width, 3), dtype=np.uint8))
        annotations = []
        for _ in range(index % 3):
            label, x, y = (int(rng.integers(high)) for high in (2, width - 16, height - 16))
            colour = list(COLOURS.values())[label]
            ImageDraw.Draw(picture).rectangle([x, y, x + 15, y + 15], fill=colour)
            box = [x, y, x + 16, y + 16]
            annotations.append({"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": label})
        path = folder / f"{index:03d}.png"
        picture.save(path)
        size = {"width": width, "height": height}
        record = {"file_name": str(path), "image_id": index, "annotations": annotations}
        records.append({**record, **size})
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).thing_classes = list(COLOURS)


def overrides(folder: Path, *detectors: str) -> list[str]:
    """Returns the config of a run on the drawn data with two data workers."""
    sizes = [
        f"{detector}.{size}"
        for detector in detectors
        for size in (
            "backbone.stages.blocks=[1,1,1,1]",
            "transformer.encoder.num_layers=1",
            "num_queries=20",
            "dn_number=20",
            "num_classes=2",
        )
        if detector != "model.teacher" or size != "num_classes=2"  # tied to the student's
    ]
    return [
        *sizes,
        "dataloader.train.dataset.names=reliability_train",
        "dataloader.test.dataset.names=reliability_val",
        "dataloader.evaluator.1=null",  # KITTI's AP needs truncation and occlusion
        "dataloader.train.num_workers=2",
        f"train.output_dir={folder}",
        "train.device=cpu",
        "train.init_checkpoint=''",
        f"train.max_iter={STEPS}",
        "train.eval_period=4",
        "train.checkpointer.period=3",
        "train.log_period=2",
        "lr_multiplier.warmup_length.steps=2",
    ]


def student(root: Path, name: str, *more: str) -> list[str]:
    """Returns the command line of a distilled student with the moving average, in bfloat16."""
    return [
        "--config-file",
        STUDENT,
        *(word for word in more if word.startswith("--")),
        *overrides(root / name, "model.student", "model.teacher"),
        f"model.teacher_checkpoint={root / 'teacher' / 'model_final.pth'}",
        "train.teacher_check_images=0",
        "train.model_ema.enabled=True",
        "train.amp.enabled=True",
        *(word for word in more if not word.startswith("--")),
    ]


def prepare(root: Path) -> None:
    """Draws the data below a folder and trains the teacher."""
    torch.set_num_threads(1)
    draw_data("reliability_train", root / "train", images=12, seed=0)
    draw_data("reliability_val", root / "val", images=8, seed=1)
    arguments = ["--config-file", TEACHER, *overrides(root / "teacher", "model")]
    run = ForkedRun([*arguments, "train.max_iter=2"], root / "teacher.txt")
    assert run.wait() == 0, run.console()


@dataclass
class ForkedRun:
    """`tools/train_net.py` in a fork of this process, in a process group of its own.

    Attributes:
        arguments: command line.
        log: file of what it prints.
        before: called in the new process.
    """

    arguments: list[str]
    log: Path
    before: Callable[[], Any] = lambda: None
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # the phase, then how often each phase was entered
        self._shared = mmap.mmap(-1, 1 + len(PHASES))
        self.started = time.monotonic()
        self.code: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            self._run()

    def _run(self) -> None:
        code = 70
        try:
            os.setsid()
            signal.signal(signal.SIGINT, signal.default_int_handler)  # nohup ignores it
            with open(self.log, "ab", buffering=0) as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            os.environ.update(self.environment)
            logging.disable(logging.NOTSET)
            self._mark_phases()
            self.before()
            train_net.main(self.arguments)
            code = 0
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else 1
            if code == 1:
                print(exit_.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            os._exit(code)

    def _mark_phases(self) -> None:
        for name, owner, method in _CALLS:
            setattr(owner, method, self._marked(PHASES.index(name), getattr(owner, method)))

    def _marked(self, number: int, function: Callable) -> Callable:
        def marked(*args: Any, **kwargs: Any) -> Any:
            before = self._shared[0]
            self._shared[0] = number
            self._shared[1 + number] = (self._shared[1 + number] + 1) % 256
            try:
                return function(*args, **kwargs)
            finally:
                self._shared[0] = before

        return marked

    def phase(self) -> str:
        """Returns what it is, or was last, busy with."""
        return PHASES[self._shared[0]]

    def entries(self, phase: str) -> int:
        """Returns how often it entered a phase."""
        return self._shared[1 + PHASES.index(phase)]

    def poll(self) -> int | None:
        """Returns its exit code (negative: the signal that ended it), None while it runs."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def wait(self, until: Callable[[], bool] = lambda: False) -> int | None:
        """Waits until it ends or `until` is true, and returns its exit code if it has ended."""
        while self.poll() is None and not until():
            if time.monotonic() - self.started > PATIENCE:
                self.signal(signal.SIGKILL)
                raise TimeoutError(f"it hangs:\n{self.console()}")
            time.sleep(0.0005)
        return self.code

    def signal(self, number: int) -> None:
        """Sends a signal to the process alone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def console(self) -> str:
        """Returns what it printed."""
        return self.log.read_text(errors="replace")


@dataclass(frozen=True)
class Moment:
    """When to interrupt a run: some seconds after its start, or after its n-th entry of a phase."""

    seconds: float
    phase: str = ""
    entry: int = 0

    def reached(self, run: ForkedRun) -> Callable[[], bool]:
        """Returns a function that is true from this moment on."""
        entered: list[float] = [] if self.phase else [run.started]

        def is_reached() -> bool:
            if not entered and run.entries(self.phase) >= self.entry:
                entered.append(time.monotonic())
            return bool(entered) and time.monotonic() - entered[0] >= self.seconds

        return is_reached


def moments(count: int, seconds: float, entries: dict[str, int], seed: int) -> Iterator[Moment]:
    """Yields random moments: half of them over the time of a run, half inside a phase.

    Args:
        count: how many.
        seconds: duration of the undisturbed run.
        entries: its number of entries of each phase.
        seed: of the draws.
    """
    rng = random.Random(seed)
    longest = {"loading": 0.01, "saving": 0.06, "evaluation": 0.4, "metrics": 0.005}
    for index in range(count):
        if index % 2 == 0:
            yield Moment(rng.uniform(0, seconds))
        else:
            phase = list(longest)[index // 2 % len(longest)]
            entry = rng.randint(1, entries[phase])
            yield Moment(rng.uniform(0, longest[phase]), phase, entry)
