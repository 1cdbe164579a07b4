"""Tables 1 to 6 of the paper. `rows.csv` holds their rows, each with its config and the paper's
figures, copied digit by digit.

Source: CLoCKDistill (arXiv:2502.10683v1), Tables 1-6. Columns of `rows.csv`:

    table, row      the table's number, the row's name
    scales          full or mini, where it exists at one scale only
    config          config file of scale full, below configs/ and without ".py"
    teacher         the same of its teacher
    gain_over       the row that its gain is measured over
    steps           multiple of the config's train.max_iter
    AP ... FPS      the paper's figures: COCO metrics, GFLOPs, parameters in millions, FPS
    mini            config and key=value of scale mini, where there is no config of the same name
    note            shown below the table
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from projects.clockdistill.configs.models.parts import MINI_TEACHER_CHECKPOINT
from projects.clockdistill.errors import UserError

SCALES = ("full", "mini")
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")

# Trained weights in this repository, by the teacher's config.
SHIPPED = {"mini/teachers/dino_r50_synthkitti.py": MINI_TEACHER_CHECKPOINT}


@dataclass(frozen=True)
class Row:
    """One line of a table; see the columns of `rows.csv`.

    Attributes:
        configs: scale -> config file below `configs/`.
        teachers: scale -> config file of its teacher; empty without distillation.
        overrides: scale -> key=value of that config.
        paper: the paper's figures by name.
    """

    name: str
    configs: Mapping[str, str]
    teachers: Mapping[str, str]
    overrides: Mapping[str, tuple[str, ...]]
    gain_over: str
    steps: float
    paper: Mapping[str, float]
    note: str

    @property
    def is_teacher(self) -> bool:
        """Whether it runs once, not once for each seed."""
        return self.name.endswith("teacher")


@dataclass(frozen=True)
class Table:
    """One table of the paper.

    Attributes:
        number: as in the paper.
        title: a few words.
        caption: one sentence.
        image: scale -> (height, width) in pixels at which costs are measured.
        rivals: names of rows that distilled rows are compared with as well.
        remarks: scale -> which rows are missing there, and why.
    """

    number: int
    title: str
    caption: str
    image: Mapping[str, tuple[int, int]]
    rivals: tuple[str, ...] = ()
    remarks: Mapping[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows in the paper's order."""
        return ROWS[self.number]

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)

    def rows_at(self, scale: str) -> list[Row]:
        """Returns the rows of a scale.

        Raises:
            UserError: if it has none.
        """
        rows = [row for row in self.rows if scale in row.configs]
        if not rows:
            raise UserError(
                f"table {self.number} has no rows at --scale {scale}: {self.remarks[scale]}"
            )
        return rows


def read_rows() -> dict[int, tuple[Row, ...]]:
    """Returns the rows of `rows.csv` by the table's number."""
    rows: dict[int, tuple[Row, ...]] = {}
    with (Path(__file__).parent / "rows.csv").open() as file:
        for line in csv.DictReader(file):
            number, scales = int(line["table"]), (line["scales"] or "full mini").split()
            mini, *overrides = line["mini"].split() or [line["config"]]
            configs = {"full": f"{line['config']}.py", "mini": _mini_file(mini)}
            teacher = line["teacher"]
            teachers = {"full": f"{teacher}.py", "mini": _mini_file(teacher)} if teacher else {}
            figures = (*METRICS, "GFLOPs", "Params", "FPS")
            row = Row(
                name=line["row"],
                configs={scale: configs[scale] for scale in scales},
                teachers={scale: teachers[scale] for scale in scales if teacher},
                overrides={"full": (), "mini": tuple(overrides)},
                gain_over=line["gain_over"],
                steps=float(line["steps"] or 1),
                paper={name: float(line[name]) for name in figures if line[name]},
                note=line["note"],
            )
            rows[number] = (*rows.get(number, ()), row)
    return rows


def _mini_file(config: str) -> str:
    return f"mini/{config.replace('_kitti', '_synthkitti')}.py"


ROWS = read_rows()
KITTI_IMAGE = {"full": (402, 1333), "mini": (96, 320)}
COCO_IMAGE = {"full": (800, 1064)}  # the paper has (1064, 800); most images of COCO are wide

TABLES = {
    table.number: table
    for table in (
        Table(
            1,
            "which features to distil",
            "DINO ResNet-50 teacher, ResNet-18 student: backbone (neck) features, memory, or both.",
            KITTI_IMAGE,
            rivals=("memory",),
        ),
        Table(
            2,
            "three detectors on KITTI",
            "CLoCKDistill compared with the undistilled student, input 402 x 1333.",
            KITTI_IMAGE,
            remarks={
                "mini": "not at this scale: the ResNet-50 students of ResNet-101, for lack of a "
                "second size of teacher"
            },
        ),
        Table(
            3,
            "three detectors on COCO",
            "CLoCKDistill compared with the undistilled student, input 1064 x 800.",
            COCO_IMAGE,
            remarks={"mini": "there is no small COCO. Fix: --scale full"},
        ),
        Table(
            4,
            "distillation methods compared",
            "DINO ResNet-50 teacher and ResNet-18 student on KITTI, five methods.",
            KITTI_IMAGE,
            rivals=("kd_detr", "baseline_equal_time", "baseline_long"),
            remarks={
                "full": "only at scale mini: baseline_equal_time, baseline_long and "
                "clockdistill_long, which the paper does not have"
            },
        ),
        Table(
            5,
            "parts of CLoCKDistill",
            "DINO ResNet-50 teacher and ResNet-18 student on KITTI: memory, location-aware mask, "
            "target-aware queries.",
            KITTI_IMAGE,
            rivals=("memory", "memory_mask"),
        ),
        Table(
            6,
            "fewer encoder and decoder layers",
            "Encoder_decoder layers of the DINO ResNet-18 student on KITTI. The paper's FPS: A100.",
            KITTI_IMAGE,
            remarks={
                "mini": "the small detectors have 2 layers where the paper's have 6, and 1 for 3"
            },
        ),
    )
}
