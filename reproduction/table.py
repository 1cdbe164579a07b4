"""What a table of the paper is: rows, each with its config and the paper's figures."""

from collections.abc import Mapping
from dataclasses import dataclass, field

# The figures that the paper gives of a row, and their order in our tables.
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
SCALES = ("full", "mini")

# scale -> config file below configs/; a scale that is missing has no such experiment
Configs = Mapping[str, str]


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        name: how tables, JSON and `--only` call it.
        configs: what trains it.
        paper: the paper's figures by name: `METRICS`, FPS, GFLOPs, Params (millions).
        teacher: what trains its teacher; none for rows without distillation.
        compared_with: name of the row that its gain is taken over; "" if it has none.
        seeded: whether it runs with every seed; a teacher runs once.
        overrides: what it changes of its config, by scale.
        variant: distinguishes runs of one config with other overrides.
        steps_factor: times the config's train.max_iter.
        note: what a reader must know, for the foot of the table.
    """

    name: str
    configs: Configs
    paper: Mapping[str, float] = field(default_factory=dict)
    teacher: Configs | None = None
    compared_with: str = ""
    seeded: bool = True
    overrides: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    variant: str = ""
    steps_factor: float = 1.0
    note: str = ""


@dataclass(frozen=True)
class Table:
    """One table of the paper.

    Attributes:
        number: as in the paper.
        title: in a few words.
        caption: the paper's, in ours.
        rows: in the paper's order.
        input_sizes: scale -> (height, width) in pixels at which costs are measured.
        rivals: rows over which gains are given beside those over `compared_with`, at the scales
            that have them.
        remarks: scale -> what a reader must know of the table there: what is not in it, and why.
    """

    number: int
    title: str
    caption: str
    rows: tuple[Row, ...]
    input_sizes: Mapping[str, tuple[int, int]]
    rivals: tuple[str, ...] = ()
    remarks: Mapping[str, str] = field(default_factory=dict)

    def row(self, name: str) -> Row:
        """The row of that name."""
        return next(row for row in self.rows if row.name == name)

    def rows_at(self, scale: str) -> list[Row]:
        """The rows that a scale has.

        Raises:
            ValueError: if it has none.
        """
        rows = [row for row in self.rows if scale in row.configs]
        if not rows:
            raise ValueError(
                f"table {self.number} has no rows at --scale {scale}: {self.remarks[scale]}"
            )
        return rows
