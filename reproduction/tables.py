"""Tables 1 to 6 of the paper and studies of our own. `rows.csv` holds their rows, each with its
config and the paper's figures, copied digit by digit.

Source: CLoCKDistill (arXiv:2502.10683v1), Tables 1-6. Columns of `rows.csv`:

    table, row      the table's number or the study's name; the row's name
    scales          where it exists; by default full and mini
    config          config file of scale full, below configs/ and without ".py"
    teacher         the same of its teacher
    gain_over       the row that its gain is measured over
    steps           multiple of the config's train.max_iter
    seeds           number of seeds at the scales few and mid; by default 3
    AP ... FPS      the paper's figures: COCO metrics, GFLOPs, parameters in millions, FPS
    mini, few, mid  config and key=value of that scale. Without a config it is the one of scale full
                    below mini/ or mid/. An empty cell of few means that of mini
    note            shown below the table
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from projects.clockdistill.configs.models.parts import (
    MID_TEACHER_CHECKPOINT,
    MINI_TEACHER_CHECKPOINT,
)
from projects.clockdistill.errors import UserError

SCALES = ("full", "mini", "few", "mid")
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")

# key=value of all students of a scale, before those of the row.
OF_SCALE = {
    "few": (
        "dataloader.train.dataset.names=synthkitti_few_train",
        "train.max_iter=4800",  # 96 epochs * 200 images / 4 images a step
        "train.eval_period=2400",
    ),
}

# key=value of all students of a scale with a config, between those two. The weights of the losses
# were chosen on synthkitti_tune_val (reproduction/README.md); the config has those missing here.
_FEW = {
    # twice the steps of a distilled student
    "baselines/dino_r18": ("train.max_iter=9600",),
    "methods/fitnet_dino_r18": ("model.feature_losses.fitnet.weight=125",),
    "methods/mgd_dino_r18": ("model.feature_losses.mgd.weight=6e-4",),
    "methods/kd_detr_dino_r18": (  # as in its public code
        "model.logit_loss.normalised=boxes",
        "model.logit_loss.layers=teacher_last",
        "model.logit_loss.kl_reduction=mean",
        "model.logit_loss.l1_reduction=mean",
        "model.logit_loss.cls_weight=8",
        "model.logit_loss.l1_weight=5",
        "model.logit_loss.giou_weight=2",
    ),
    "ablations/memory_dino_r18": ("model.token_weights.alpha=1.5",),
    "dino_r18": (
        "model.logit_loss.cls_weight=0.1",
        "model.logit_loss.l1_weight=0.5",
        "model.logit_loss.giou_weight=0.2",
    ),
}
OF_CONFIG = {
    ("few", f"mini/{config}_synthkitti.py"): overrides for config, overrides in _FEW.items()
}

# Trained weights in this repository, by the teacher's config.
SHIPPED = {
    "mini/teachers/dino_r50_synthkitti.py": MINI_TEACHER_CHECKPOINT,
    "mid/teachers/dino_r50_synthkitti.py": MID_TEACHER_CHECKPOINT,
}


@dataclass(frozen=True)
class Row:
    """One line of a table; see the columns of `rows.csv`.

    Attributes:
        configs: scale -> config file below `configs/`.
        teachers: scale -> config file of its teacher; empty without distillation.
        overrides: scale -> key=value of that config.
        seeds: scale -> number of seeds.
        paper: the paper's figures by name.
    """

    name: str
    configs: Mapping[str, str]
    teachers: Mapping[str, str]
    overrides: Mapping[str, tuple[str, ...]]
    gain_over: str
    steps: float
    seeds: Mapping[str, int]
    paper: Mapping[str, float]
    note: str

    @property
    def is_teacher(self) -> bool:
        """Whether it runs once, not once for each seed."""
        return self.name.endswith("teacher")


@dataclass(frozen=True)
class Curve:
    """What the picture of a study shows: AP over a quantity that its rows vary.

    Attributes:
        label: the quantity, for the axis.
        lines: name -> for each value of the quantity the row. A value that is a row's name stands
            for that row's AP.
    """

    label: str
    lines: Mapping[str, Mapping[float | str, str]]

    @property
    def is_numeric(self) -> bool:
        return all(isinstance(x, float | int) for points in self.lines.values() for x in points)


@dataclass(frozen=True)
class Table:
    """One table of the paper, or a study.

    Attributes:
        name: the number in the paper, or the study's name.
        title: a few words.
        caption: one sentence.
        image: scale -> (height, width) in pixels at which costs are measured.
        rivals: names of rows that distilled rows are compared with as well.
        remarks: scale -> which rows are missing there, and why.
        curve: what its picture shows instead of bars.
    """

    name: str
    title: str
    caption: str
    image: Mapping[str, tuple[int, int]]
    rivals: tuple[str, ...] = ()
    remarks: Mapping[str, str] = field(default_factory=dict)
    curve: Curve | None = None

    @property
    def heading(self) -> str:
        """The name as it begins a title."""
        return f"Table {self.name}" if self.name.isdigit() else self.name.capitalize()

    @property
    def scales(self) -> list[str]:
        """The scales at which it has rows."""
        return [scale for scale in SCALES if any(scale in row.configs for row in self.rows)]

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows in the paper's order."""
        return ROWS[self.name]

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)

    def rows_at(self, scale: str) -> list[Row]:
        """Returns the rows of a scale.

        Raises:
            UserError: if it has none.
        """
        if scale not in self.scales:
            reason = f": {self.remarks[scale]}" if scale in self.remarks else ""
            raise UserError(
                f"--table {self.name} has no rows at --scale {scale}{reason}. "
                f"Fix: --scale {' or '.join(self.scales)}"
            )
        return [row for row in self.rows if scale in row.configs]


def read_rows() -> dict[str, tuple[Row, ...]]:
    """Returns the rows of `rows.csv` by the table's name."""
    rows: dict[str, tuple[Row, ...]] = {}
    with (Path(__file__).parent / "rows.csv").open() as file:
        for line in csv.DictReader(file):
            scales = (line["scales"] or "full mini").split()
            cells = {scale: _cell(line, scale) for scale in scales}
            teacher = line["teacher"]
            figures = (*METRICS, "GFLOPs", "Params", "FPS")
            row = Row(
                name=line["row"],
                configs={scale: config for scale, (config, _) in cells.items()},
                teachers={scale: _file(teacher, scale) for scale in scales if teacher},
                overrides={scale: tuple(overrides) for scale, (_, overrides) in cells.items()},
                gain_over=line["gain_over"],
                steps=float(line["steps"] or 1),
                seeds={
                    scale: int((scale in ("few", "mid") and line["seeds"]) or 3) for scale in scales
                },
                paper={name: float(line[name]) for name in figures if line[name]},
                note=line["note"],
            )
            rows[line["table"]] = (*rows.get(line["table"], ()), row)
    return rows


def _cell(line: Mapping[str, str], scale: str) -> tuple[str, Sequence[str]]:
    """Returns a row's config at a scale, and key=value."""
    if scale == "full":
        return _file(line["config"], scale), ()
    cell = line[scale] or (line["mini"] if scale == "few" else "")
    config, *overrides = cell.split() or [line["config"]]
    if "=" in config:
        config, overrides = line["config"], [config, *overrides]
    return _file(config, scale), overrides


def _file(config: str, scale: str) -> str:
    if scale == "full":
        return f"{config}.py"
    folder = "mid" if scale == "mid" else "mini"
    return f"{folder}/{config.replace('_kitti', '_synthkitti')}.py"


ROWS = read_rows()
KITTI_IMAGE = {"full": (402, 1333), **dict.fromkeys(("mini", "few", "mid"), (96, 320))}
_STEPS_OF_FEW = "The undistilled student has twice the steps of a distilled one"
_LABELS_OF_FEW = (
    "students see the labels of 200 frames unless a note says otherwise; the teacher saw those of "
    f"all 1,600. {_STEPS_OF_FEW}"
)
_TEACHERS = {
    "same_labels_teacher": "clockdistill_from_same_labels",
    "half_trained_teacher": "clockdistill_from_half_trained",
    "short_trained_teacher": "clockdistill_from_short_trained",
    "teacher": "clockdistill",
}
COCO_IMAGE = {"full": (800, 1064)}  # the paper has (1064, 800); most images of COCO are wide

TABLES = {
    table.name: table
    for table in (
        Table(
            "1",
            "which features to distil",
            "DINO ResNet-50 teacher, ResNet-18 student: backbone (neck) features, memory, or both.",
            KITTI_IMAGE,
            rivals=("memory",),
        ),
        Table(
            "2",
            "three detectors",
            "CLoCKDistill over the undistilled student; in the paper on KITTI, 402 x 1333.",
            KITTI_IMAGE,
            remarks={
                "mini": "not at this scale: the ResNet-50 students of ResNet-101, for lack of a "
                "second size of teacher"
            },
        ),
        Table(
            "3",
            "three detectors on COCO",
            "CLoCKDistill compared with the undistilled student, input 1064 x 800.",
            COCO_IMAGE,
            remarks={"mini": "there is no small COCO"},
        ),
        Table(
            "4",
            "distillation methods compared",
            "DINO ResNet-50 teacher and ResNet-18 student; in the paper on KITTI.",
            KITTI_IMAGE,
            rivals=(
                "kd_detr",
                "kd_detr_twice",
                "clockdistill_twice",
                "baseline_equal_time",
                "baseline_twice",
                "baseline_long",
            ),
            remarks={
                "full": "only at other scales: students with more steps, which the paper does not "
                "have",
                "few": f"{_LABELS_OF_FEW}. same_labels_teacher saw those of the students' 200",
            },
        ),
        Table(
            "5",
            "parts of CLoCKDistill",
            "Memory distillation, location-aware mask and target-aware queries, added one by one "
            "to the DINO ResNet-18 student; in the paper on KITTI.",
            KITTI_IMAGE,
            rivals=("memory", "memory_mask"),
            remarks={"few": _LABELS_OF_FEW},
        ),
        Table(
            "6",
            "fewer encoder and decoder layers",
            "Encoder_decoder layers of the DINO ResNet-18 student; in the paper on KITTI, A100.",
            KITTI_IMAGE,
            remarks={
                "mini": "the small detectors have 2 layers where the paper's have 6, and 1 for 3"
            },
        ),
        Table(
            "readings",
            "what eq. (9) and (10) leave open",
            "DINO teacher and student with the paper's width and coefficients, 200 labelled "
            "frames; AP on the scenes for choosing settings.",
            KITTI_IMAGE,
            rivals=("memory_mask", "all"),
        ),
        Table(
            "labels",
            "how many labels",
            "DINO student and CLoCKDistill with 50, 200, 800 and all 1,600 frames labelled.",
            KITTI_IMAGE,
            remarks={
                "few": "the teacher saw the labels of all 1,600 frames, for every row. "
                f"{_STEPS_OF_FEW}"
            },
            curve=Curve(
                "labelled frames",
                {
                    name: {
                        50: f"{row}_50",
                        200: row,
                        800: f"{row}_800",
                        1600: f"{row}_all_labels",
                    }
                    for name, row in (("undistilled", "baseline"), ("CLoCKDistill", "clockdistill"))
                },
            ),
        ),
        Table(
            "teachers",
            "how good a teacher",
            "CLoCKDistill with 200 labelled frames and teachers of different quality.",
            KITTI_IMAGE,
            remarks={"few": _STEPS_OF_FEW},
            curve=Curve(
                "AP of the teacher",
                {
                    "undistilled": dict.fromkeys(_TEACHERS, "baseline"),
                    "CLoCKDistill": _TEACHERS,
                },
            ),
        ),
    )
}
