"""The runs that a table needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path

from projects.clockdistill.engine.config_file import CONFIGS, ROOT, load_config
from projects.clockdistill.engine.jobs import Run
from projects.clockdistill.errors import UserError
from reproduction.tables import OF_CONFIG, OF_SCALE, ROWS, SHIPPED, Row, Table

TEACHER_SEED = 0


@dataclass(frozen=True)
class Plan:
    """The runs of a table.

    Attributes:
        table: what to reproduce.
        scale: one of `tables.SCALES`.
        seeds: of the students; None for each row's own number.
        teacher: "shipped", "train" or a checkpoint.
        output: folder of all runs.
        num_gpus: GPUs of each run.
        overrides: key=value for every run.
    """

    table: Table
    scale: str
    seeds: tuple[int, ...] | None
    teacher: str
    output: Path
    num_gpus: int = 1
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuses what cannot run, before anything runs.

        Raises:
            UserError: for a scale without rows, a missing config, an override that does not fit,
                or a teacher that does not fit the table.
        """
        teachers = list({row.teachers[self.scale]: None for row in self.rows if row.teachers})
        if self.teacher == "shipped" and not any(name in SHIPPED for name in teachers):
            raise UserError(
                f"--teacher shipped: there are no weights of {', '.join(teachers)} in this "
                "repository. Fix: --teacher train, or --teacher PATH"
            )
        if self.teacher not in ("shipped", "train"):
            if not Path(self.teacher).is_file():
                raise UserError(f"--teacher {self.teacher}: there is no such file")
            if len(teachers) > 1:
                raise UserError(
                    f"--teacher {self.teacher}: one checkpoint for the table's {len(teachers)} "
                    f"teachers ({', '.join(teachers)}). Fix: --teacher train"
                )
        for row in self.rows:
            run = self.runs(row)[0]
            load_config(str(CONFIGS / run.config), list(run.overrides))

    @cached_property
    def rows(self) -> list[Row]:
        return self.table.rows_at(self.scale)

    @property
    def folder(self) -> Path:
        """The folder of the scale, which all tables share."""
        return self.output / self.scale

    def default_seeds(self, row: Row) -> tuple[int, ...]:
        return (TEACHER_SEED,) if row.is_teacher else tuple(range(row.seeds[self.scale]))

    def seeds_of(self, row: Row) -> tuple[int, ...]:
        default = self.default_seeds(row)
        return default if row.is_teacher else self.seeds or default

    def known_seeds(self, row: Row) -> list[int]:
        """Returns the seeds of this command and those of a whole table."""
        return sorted({*self.seeds_of(row), *self.default_seeds(row)})

    def known_runs(self) -> list[Run]:
        """Returns the runs of all rows with these seeds."""
        return [self.run(row, seed) for row in self.rows for seed in self.known_seeds(row)]

    def run(self, row: Row, seed: int) -> Run:
        if row.is_teacher:
            return self.teacher_run(row.configs[self.scale])
        return self._student_run(row, seed)

    def runs(self, row: Row) -> list[Run]:
        """Returns the runs of a row, one for each seed."""
        return [self.run(row, seed) for seed in self.seeds_of(row)]

    def phases(self, rows: Sequence[Row]) -> tuple[list[Run], list[Run]]:
        """Returns the teachers to train for some rows, and then all other runs."""
        teachers = {row.teachers[self.scale]: None for row in rows if row.teachers}
        needed = [self.teacher_run(config) for config in teachers]
        first = {run.folder: run for run in needed if "--eval-only" not in run.options}
        # every row with the first seed before any with the second: half a table is useful
        by_seed = zip_longest(*(self.runs(row) for row in rows))
        runs = [run for group in by_seed for run in group if run is not None]
        rest = {run.folder: run for run in runs if run.folder not in first}  # rows may share a run
        return list(first.values()), list(rest.values())

    @staticmethod
    def teachers_of(runs: Sequence[Run]) -> set[Path]:
        """Returns the folders of the weights from which runs are distilled."""
        key = "model.teacher_checkpoint="
        words = (word for run in runs for word in run.overrides if word.startswith(key))
        return {Path(word.removeprefix(key)).parent for word in words}

    def weights(self, teacher: str) -> Path:
        """Returns where the weights of a teacher's config are, or will be once it has run."""
        if self.teacher == "shipped" and teacher in SHIPPED:
            return ROOT / SHIPPED[teacher]
        if self.teacher in ("shipped", "train"):
            return self._folder(teacher, TEACHER_SEED) / "model_final.pth"
        return Path(self.teacher).resolve()

    def teacher_run(self, config: str) -> Run:
        """Returns the run that trains a teacher, or that evaluates given weights."""
        weights, folder = self.weights(config), self._folder(config, TEACHER_SEED)
        title = _name(config)
        overrides = (*self.overrides, f"train.seed={TEACHER_SEED}")
        if weights.parent == folder:
            return Run(title, config, folder, overrides, self._options())
        overrides = (*overrides, f"train.init_checkpoint={weights}")
        folder = folder.with_name("evaluated")
        return Run(title, config, folder, overrides, (*self._options(), "--eval-only"))

    def _student_run(self, row: Row, seed: int) -> Run:
        config, own = row.configs[self.scale], row.overrides[self.scale]
        common = (*OF_SCALE.get(self.scale, ()), *OF_CONFIG.get((self.scale, config), ()))
        overrides = (*common, *self.overrides, f"train.seed={seed}", *own)
        if row.teachers:
            weights = self.weights(row.teachers[self.scale])
            overrides = (*overrides, f"model.teacher_checkpoint={weights}")
        if row.steps != 1:
            steps = load_config(str(CONFIGS / config), list(overrides)).train.max_iter
            overrides = (*overrides, f"train.max_iter={round(row.steps * steps)}")
        other_teacher = row.teachers.get(self.scale) != self._first_teacher(config)
        # another run of the same config has another folder
        variant = f"+{row.name.replace('/', '_')}" if own or row.steps != 1 or other_teacher else ""
        folder = self._folder(config, seed, variant)
        return Run(f"{row.name}, seed {seed}", config, folder, overrides, self._options())

    def _first_teacher(self, config: str) -> str | None:
        """Returns the teacher of the first row, of any table, with a config."""
        rows = (row for rows in ROWS.values() for row in rows)
        first = next(row for row in rows if row.configs.get(self.scale) == config)
        return first.teachers.get(self.scale)

    def _folder(self, config: str, seed: int, variant: str = "") -> Path:
        return self.folder / (_name(config) + variant) / f"seed{seed}"

    def _options(self) -> tuple[str, ...]:
        return ("--num-gpus", str(self.num_gpus)) if self.num_gpus > 1 else ()


def _name(config: str) -> str:
    """Returns a config's name below the folder of its scale."""
    return config.removeprefix("mini/").removeprefix("mid/").replace(".py", "")
