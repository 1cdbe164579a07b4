"""Runs a table of the paper, or a study, and writes it, every row from one command.

    python tools/reproduce.py --table 4 --scale mini
    python tools/reproduce.py --table 4 --scale mini --seeds 0 1 --only baseline clockdistill
    python tools/reproduce.py --table 2 --num-gpus 8 --dry-run
    python tools/reproduce.py --table 4 --scale mini --render

Runs teachers, baselines and students with tools/train_net.py and, after each run, writes
reproduction/results/table4_mini.md, .json, .csv and .png. After an interruption the same command
goes on: finished runs stay as long as their config, weights and data do not change, and tables
share them. Rows and seeds that --only and --seeds leave out are shown as far as they were run
before; a table is not replaced by one with fewer results. Records of finished runs are kept in
reproduction/results/runs_mini.json: with --add, also on another machine, they count as done.

--scale full is the paper's experiment: it needs the data, ImageNet weights and GPUs. The others are
small detectors on drawn scenes, on a CPU: mini with all labels and a short schedule, few with 200
labelled frames and a longer schedule, mid (--table readings) at the paper's width.

key=value at the end overrides a key in all runs. That is another experiment, as is another
--teacher, so it needs folders of its own: --output tries --results tries/results train.max_iter=20
"""

import argparse
import sys
from pathlib import Path

# run as a script, only tools/ is on the path
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import projects.clockdistill

# isort: split
from filelock import FileLock, Timeout

import projects.clockdistill.data  # noqa: F401  registers the datasets
from projects.clockdistill.engine.arguments import (
    one_line_errors,
    positive_int,
    tool_parser,
)
from projects.clockdistill.engine.jobs import exit_on_signals, shown
from projects.clockdistill.errors import UserError
from reproduction.costs import Costs
from reproduction.execution import (
    execute,
    keep_records,
    next_action,
    print_commands,
    restore_records,
    status_of,
)
from reproduction.plan import Plan
from reproduction.report import check_keeps_results, lacking, measured, stored, write_report
from reproduction.tables import SCALES, TABLES

OUTPUT, RESULTS = Path("output/reproduce"), Path("reproduction/results")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = tool_parser(__doc__)
    parser.add_argument("--table", required=True, choices=list(TABLES))
    parser.add_argument("--scale", choices=SCALES, default="full")
    parser.add_argument(
        "--seeds", type=int, nargs="+", metavar="SEED", help="default: those of each row, mostly 3"
    )
    parser.add_argument("--only", nargs="+", metavar="ROW", help="run these rows only")
    parser.add_argument("--jobs", type=positive_int, default=1, help="runs at a time; default: 1")
    parser.add_argument("--num-gpus", type=positive_int, default=1, help="of each run; default: 1")
    parser.add_argument(
        "--teacher",
        help="shipped, train or a checkpoint; default: train at scale full, otherwise shipped",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands and end")
    parser.add_argument(
        "--render", action="store_true", help="write the table again from its JSON, run nothing"
    )
    parser.add_argument(
        "--add", action="store_true", help="count runs recorded in the --results folder as done"
    )
    parser.add_argument("--output", type=Path, help=f"folder of the runs; default: {OUTPUT}")
    parser.add_argument("--results", type=Path, help=f"folder of the tables; default: {RESULTS}")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for all runs")
    return parser.parse_intermixed_args(argv)


def check(arguments: argparse.Namespace) -> None:
    """Refuses options that do not fit.

    Raises:
        UserError: names the option and the fix.
    """
    seeds = arguments.seeds or [0]
    if min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise UserError(f"--seeds {seeds}: seeds must differ and be at least 0")
    teacher = arguments.teacher or default_teacher(arguments.scale)
    other = [f"--teacher {teacher}"] if teacher != default_teacher(arguments.scale) else []
    other += arguments.overrides
    if other and not (arguments.output and arguments.results):
        raise UserError(
            f"{' '.join(other)} makes another experiment, which must not replace "
            f"{OUTPUT} and {RESULTS}. Fix: name other folders with --output and --results"
        )
    names = [row.name for row in TABLES[arguments.table].rows_at(arguments.scale)]
    for name in arguments.only or ():
        if name not in names:
            raise UserError(
                f"--only {name}: there is no such row at --scale {arguments.scale}. Fix: one of "
                f"{', '.join(names)}"
            )


def default_teacher(scale: str) -> str:
    return "train" if scale == "full" else "shipped"


def reproduce(arguments: argparse.Namespace) -> None:
    """Runs the table's rows and writes it."""
    table, results = TABLES[arguments.table], arguments.results or RESULTS
    if arguments.render:
        show(write_report(results, table, stored(results, table, arguments.scale)))
        return
    plan = Plan(
        table,
        arguments.scale,
        tuple(arguments.seeds) if arguments.seeds else None,
        arguments.teacher or default_teacher(arguments.scale),
        (arguments.output or OUTPUT).resolve(),
        arguments.num_gpus,
        tuple(arguments.overrides),
    )
    rows = [row for row in plan.rows if not arguments.only or row.name in arguments.only]
    teachers, others = plan.phases(rows)
    records = plan.known_runs(), plan.folder, results / f"runs_{plan.scale}.json"
    if arguments.add:
        restore_records(*records)
    costs = [Costs(plan, row) for row in plan.rows]
    if arguments.dry_run:
        print_commands([*teachers, *others])
        print(*dict.fromkeys(shown(one.command) for one in costs), sep="\n")
        return

    def write() -> list[Path]:
        keep_records(*records)
        if lacking(results, plan):
            return []
        return write_report(results, table, measured(plan, whole_table(arguments)))

    plan.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(plan.folder / ".lock", timeout=0):
            check_keeps_results(results, plan, rows)
            for one in costs:
                one.measure()
            needed = plan.teachers_of([run for run in others if next_action(run)[0] != "done"])
            execute(teachers, arguments.jobs, need_weights=needed, after_each=write)
            execute(others, arguments.jobs, after_each=write)
            check_keeps_results(results, plan)
            show(write())
            failed = [run.title for run in (*teachers, *others) if status_of(run) == "failed"]
    except Timeout:
        raise UserError(
            f"another tools/reproduce.py works in {plan.folder}. Fix: wait for it, or name another "
            "folder with --output"
        ) from None
    if failed:
        total = len(teachers) + len(others)
        raise UserError(f"{len(failed)} of {total} runs failed: {', '.join(failed)}")


def whole_table(arguments: argparse.Namespace) -> str:
    """Returns the command that runs all rows and seeds of a table."""
    command = ["python", "tools/reproduce.py", "--table", arguments.table]
    teacher = ["--teacher", arguments.teacher] if arguments.teacher else []
    return shown([*command, "--scale", arguments.scale, *teacher, *arguments.overrides])


def show(files: list[Path]) -> None:
    """Prints the table and where it is."""
    print("\n" + files[0].read_text().partition("![picture]")[0].rstrip())
    print("\n" + "\n".join(f"  {file}" for file in files))


def main(argv: list[str] | None = None) -> None:
    exit_on_signals()
    arguments = parse(argv)
    with one_line_errors(arguments.debug, "interrupted; the same command goes on from here"):
        check(arguments)
        reproduce(arguments)


if __name__ == "__main__":
    main()
