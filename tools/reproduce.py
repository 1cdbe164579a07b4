"""A table of the paper, run and written anew: every row, from one command.

    python tools/reproduce.py --table 4 --scale mini
    python tools/reproduce.py --table 4 --scale mini --seeds 0 1 --only baseline clockdistill
    python tools/reproduce.py --table 2 --num-gpus 8 --dry-run

Runs teacher, baselines and rows through tools/train_net.py and writes results/table4_mini.md,
.json, .csv and .png. Stopped anywhere, the same command goes on where it stopped: finished runs
are kept as long as their config, teacher and data stay the same, and shared between tables.
Whatever is not run (--only) is shown as far as it was run before.

--scale full is the paper's experiment: it needs the data, ImageNet weights and GPUs.
--scale mini is small detectors on drawn scenes, on a CPU.

key=value at the end overrides a key in all runs; that is another experiment, so its folders must be
named: --output tries --results tries/results train.max_iter=20
"""

import argparse
import signal
import sys
from pathlib import Path

# run as a script, only tools/ is on the path
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import projects.clockdistill

# isort: split
import projects.clockdistill.data  # noqa: F401  registers the datasets
from projects.clockdistill.engine import environment
from projects.clockdistill.engine.commands import shown
from projects.clockdistill.engine.jobs import exits_on_signals
from reproduction import costs
from reproduction.execution import execute, print_commands
from reproduction.lock import exclusive
from reproduction.measured import measured_rows, undecided_pairs
from reproduction.plan import Options, Plan, make_plan
from reproduction.report import write_report
from reproduction.runs import has_failed
from reproduction.table import SCALES
from reproduction.tables import TABLES

OUTPUT, RESULTS = Path("output/reproduce"), Path("reproduction/results")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=int, required=True, choices=sorted(TABLES))
    parser.add_argument("--scale", choices=SCALES, default="full")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="SEED")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="run these rows alone")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; default: 1")
    parser.add_argument("--num-gpus", type=int, default=1, help="GPUs of each run; default: 1")
    parser.add_argument(
        "--teacher",
        help="shipped, train or a checkpoint; default: shipped where there is one, else train",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands and end")
    parser.add_argument("--output", type=Path, help=f"folder of the runs; default: {OUTPUT}")
    parser.add_argument("--results", type=Path, help=f"folder of the tables; default: {RESULTS}")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for all runs")
    return parser.parse_intermixed_args(argv)


def check(arguments: argparse.Namespace) -> None:
    """Refuses what argparse lets pass.

    Raises:
        ValueError: names the option and the mend.
    """
    if arguments.jobs < 1 or arguments.num_gpus < 1:
        raise ValueError("--jobs and --num-gpus must be at least 1")
    if min(arguments.seeds) < 0 or len(set(arguments.seeds)) < len(arguments.seeds):
        raise ValueError(f"--seeds {arguments.seeds}: must be different and not below 0")
    if arguments.overrides and not (arguments.output and arguments.results):
        raise ValueError(
            f"{' '.join(arguments.overrides)} makes another experiment, whose runs and tables must "
            f"not take the place of those in {OUTPUT} and {RESULTS}: name folders for it with "
            "--output and --results"
        )
    names = [row.name for row in TABLES[arguments.table].rows_at(arguments.scale)]
    for name in arguments.only or ():
        if name not in names:
            raise ValueError(
                f"--only {name}: table {arguments.table} has at scale {arguments.scale} the rows "
                f"{', '.join(names)}"
            )


def choose(arguments: argparse.Namespace) -> Options:
    """The options, with their defaults."""
    return Options(
        scale=arguments.scale,
        seeds=tuple(arguments.seeds),
        overrides=tuple(arguments.overrides),
        teacher=arguments.teacher or ("shipped" if arguments.scale == "mini" else "train"),
        output=(arguments.output or OUTPUT).resolve(),
        num_gpus=arguments.num_gpus,
    )


def report(plan: Plan, measured: dict[str, costs.Measurement], folder: Path, command: str) -> None:
    """Writes the table and shows it."""
    content = {
        "table": plan.table.number,
        "scale": plan.options.scale,
        "rows": measured_rows(plan, measured),
        "undecided": [
            {"row": row, "other": other, "gain": gain.gain, "ci95": gain.ci95}
            for row, other, gain in undecided_pairs(plan)
        ],
        "command": command,
        "overrides": list(plan.options.overrides),
        "commit": environment.commit(),
        "versions": environment.versions(),
        "machine": environment.machine(),
    }
    files = write_report(folder, plan.table, content)
    print("\n" + files[0].read_text().partition("![bars]")[0].rstrip())
    print("\n" + "\n".join(f"  {file}" for file in files))


def reproduce(arguments: argparse.Namespace, command: str) -> None:
    """Does what the command line asks for."""
    check(arguments)
    table, options = TABLES[arguments.table], choose(arguments)
    plan = make_plan(table, options)
    only = arguments.only or [row.name for row in table.rows_at(options.scale)]
    phases = plan.phases(only)
    measured = costs.measurements(plan)
    wanted = [measured[name] for name in only]
    if arguments.dry_run:
        print_commands(phases, options.folder)
        for job in costs.unmeasured(wanted):
            print(shown(job.command))
        return
    with exclusive(options.folder) as lock:
        execute(phases, options.folder, arguments.jobs, lock)
        costs.measure(wanted, lock)
        report(plan, measured, arguments.results or RESULTS, command)
    failed = [run.title for phase in phases for run in phase if has_failed(run)]
    if failed:
        total = sum(map(len, phases))
        sys.exit(f"reproduce: {len(failed)} of {total} runs failed: {', '.join(failed)}")


def main(argv: list[str] | None = None) -> None:
    arguments = parse(argv)
    command = shown(["python", "tools/reproduce.py", *(sys.argv[1:] if argv is None else argv)])
    try:
        with exits_on_signals():
            reproduce(arguments, command)
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"reproduce: {error}")
    except KeyboardInterrupt:
        print("\nreproduce: interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main()
