"""Which runs a table needs, and in which folders."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from projects.clockdistill.engine.commands import CONFIGS, ROOT
from projects.clockdistill.engine.config_file import find_config, load_config
from projects.clockdistill.engine.weights import local_path
from reproduction.identity import config_hash
from reproduction.runs import Run
from reproduction.table import Row, Table
from reproduction.tables import SHIPPED

TEACHER_SEED = 0


@dataclass(frozen=True)
class Options:
    """What the user chooses.

    Attributes:
        scale: one of `table.SCALES`.
        seeds: of the students; teachers have one of their own.
        overrides: key=value for every run.
        teacher: "shipped", "train" or a checkpoint's path.
        output: folder of all runs.
        num_gpus: of each run.
    """

    scale: str
    seeds: tuple[int, ...]
    overrides: tuple[str, ...]
    teacher: str
    output: Path
    num_gpus: int = 1

    @property
    def folder(self) -> Path:
        """Where the runs of the scale lie; all tables share them."""
        return self.output / self.scale


@dataclass(frozen=True)
class Plan:
    """The runs of all rows of a table.

    Attributes:
        runs: row name -> its runs, one per seed.
        teachers: teacher's config -> its run.
    """

    table: Table
    options: Options
    runs: dict[str, list[Run]]
    teachers: dict[str, Run]

    def phases(self, only: Sequence[str]) -> list[list[Run]]:
        """What to run for some rows: the teachers that they need, and then the rest.

        Args:
            only: names of rows.
        """
        scale = self.options.scale
        rows = [row for row in self.table.rows_at(scale) if row.name in only]
        needed = [self.teachers[row.teacher[scale]] for row in rows if row.teacher]
        first = _unique([run for run in needed if run.evaluates is None])
        # all rows with the first seed before the second one: half a table is worth more that way
        longest = max((len(self.runs[row.name]) for row in rows), default=0)
        rest = [
            self.runs[row.name][index]
            for index in range(longest)
            for row in rows
            if index < len(self.runs[row.name])
        ]
        return [first, [run for run in _unique(rest) if run not in first]]


def _unique(runs: Sequence[Run]) -> list[Run]:
    """One run per folder: rows may share a run."""
    return list({run.folder: run for run in runs}.values())


def make_plan(table: Table, options: Options) -> Plan:
    """Looks up the configs of a table's rows.

    Raises:
        ValueError: if a config or its initial weights are missing, an override does not fit, the
            table has no rows at the scale, or the choice of teacher does not fit the table.
    """
    rows = table.rows_at(options.scale)
    _require_configs(rows, options.scale)
    configs = [row.teacher for row in rows if row.teacher]
    names = list(dict.fromkeys(teacher[options.scale] for teacher in configs))
    _check_teacher(options, names)
    teachers = {name: _teacher(name, options) for name in names}
    runs = {}
    for row in rows:
        config = row.configs[options.scale]
        if config in teachers:
            runs[row.name] = [teachers[config]]
        else:
            runs[row.name] = [_student(row, seed, options, teachers) for seed in options.seeds]
    return Plan(table, options, runs, teachers)


def configs_of(row: Row, scale: str) -> list[str]:
    """The config files that a row needs."""
    return [configs[scale] for configs in (row.configs, row.teacher) if configs]


def missing_configs(rows: Sequence[Row], scale: str) -> list[str]:
    """Config files of these rows that do not exist."""
    names = dict.fromkeys(name for row in rows for name in configs_of(row, scale))
    return [name for name in names if not (CONFIGS / name).is_file()]


def _require_configs(rows: Sequence[Row], scale: str) -> None:
    for name in missing_configs(rows, scale):
        find_config(str(CONFIGS / name))  # raises, and names the nearest that exists


def _check_teacher(options: Options, names: Sequence[str]) -> None:
    if options.teacher == "shipped" and not any(name in SHIPPED for name in names):
        raise ValueError(
            f"--teacher shipped: no weights of {', '.join(names)} are shipped; train it "
            "(--teacher train) or name its checkpoint (--teacher PATH)"
        )
    if options.teacher in ("shipped", "train"):
        return
    if not Path(options.teacher).is_file():
        raise FileNotFoundError(f"--teacher {options.teacher}: there is no such file")
    if len(names) != 1:
        raise ValueError(
            f"--teacher {options.teacher}: the table has {len(names)} teachers "
            f"({', '.join(names)}), so one checkpoint cannot stand for all; use --teacher train"
        )


def _teacher(config: str, options: Options) -> Run:
    evaluates = None
    if options.teacher == "shipped" and config in SHIPPED:
        evaluates = ROOT / SHIPPED[config]
    elif options.teacher not in ("shipped", "train"):
        evaluates = Path(options.teacher).resolve()
    overrides = (*options.overrides, f"train.seed={TEACHER_SEED}")
    folder = options.folder / run_name(config) / f"seed{TEACHER_SEED}"
    run = _run(config, overrides, folder, options)
    return replace(run, title=f"teacher {run_name(config)}", evaluates=evaluates, teaches=True)


def _student(row: Row, seed: int, options: Options, teachers: dict[str, Run]) -> Run:
    config = row.configs[options.scale]
    own = row.overrides.get(options.scale, ())
    variant = f"+{row.variant}" if own or row.steps_factor != 1 else ""
    overrides = (*options.overrides, *own, f"train.seed={seed}")
    if row.steps_factor != 1:
        steps = load_config(str(CONFIGS / config), list(overrides)).train.max_iter
        overrides = (*overrides, f"train.max_iter={round(steps * row.steps_factor)}")
    folder = options.folder / (run_name(config) + variant) / f"seed{seed}"
    run = _run(config, overrides, folder, options)
    teacher = teachers[row.teacher[options.scale]].weights if row.teacher else None
    return replace(run, title=f"{row.name}, seed {seed}", teacher=teacher)


def _run(config: str, overrides: tuple[str, ...], folder: Path, options: Options) -> Run:
    cfg = load_config(str(CONFIGS / config), list(overrides))
    return Run(
        title=config,
        config=config,
        overrides=overrides,
        folder=folder,
        config_hash=config_hash(cfg),
        steps=cfg.train.max_iter,
        test_dataset=cfg.dataloader.test.dataset.names,
        num_gpus=options.num_gpus,
        starts_from=_file(cfg.train.init_checkpoint),
    )


def _file(address: str) -> Path | None:
    """The file of initial weights; None if there are none, or they come from elsewhere."""
    if not address or "://" in address:
        return None
    return Path(local_path(address, "train.init_checkpoint"))


def run_name(config: str) -> str:
    """A config's name below the folder of its scale."""
    return config.removeprefix("mini/").removesuffix(".py")
