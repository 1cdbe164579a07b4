"""Everything that one GPU can prove and time, in eight minutes and without a network.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --only kernel right
    python benchmarks/gpu.py --device cpu --quick

Prints a table per section and writes all figures to benchmarks/results/gpu.json after each.
Sections come in the order of their weight, each with a time limit of its own. benchmarks/README.md
says what they measure and which packages they need.
"""

import argparse
import gc
import importlib
import json
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# as a script it has only benchmarks/ on the path
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.card.report import environment, tables, write_json
from benchmarks.card.section import Run

RESULTS = Path(__file__).parent / "results" / "gpu.json"
OURS = ("benchmarks", "projects")


@dataclass(frozen=True)
class Section:
    """One section.

    Attributes:
        name: for the command line and the JSON file.
        module: below `benchmarks.card`.
        function: of that module; takes a `Run`.
        title: for the reader.
        seconds: its time limit.
    """

    name: str
    module: str
    function: str
    title: str
    seconds: float


# Eight minutes together; the first five in three.
SECTIONS = (
    Section("kernel", "kernel", "correctness", "deformable sampling against float64", 20),
    Section("right", "right", "correctness", "detectors and training against the CPU", 45),
    Section("kernel_speed", "kernel", "speed", "deformable sampling, time and memory", 40),
    Section("inference", "inference", "dino", "DINO at 402 x 1333, images a second", 35),
    Section("training", "training", "steps", "DINO R18, batches of 402 x 1333", 40),
    Section("learning", "learning", "mini_experiment", "mini experiment, AP in percent", 90),
    Section("all_inference", "inference", "others", "all detectors, images a second", 60),
    Section("compiled", "inference", "compiled", "DINO R50 by torch.compile, images a second", 60),
    Section("train_compile", "training", "compiled", "DINO R18 with train.compile=True", 90),
)


def main(argv: list[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [section.name for section in SECTIONS]
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="SECTION")
    parser.add_argument("--seconds", type=float, help="limit of each section; default: its own")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help=f"on a GPU at full size, default: {RESULTS}"
    )
    arguments = parser.parse_args(argv)
    rehearsal = arguments.quick or arguments.device == "cpu"
    if rehearsal and arguments.json and arguments.json.resolve() == RESULTS.resolve():
        parser.error(f"--json {arguments.json} is for a GPU at full size. Fix: name another file")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit(f"gpu: torch {torch.__version__} finds no CUDA GPU. Fix: add --device cpu")
    file = arguments.json or (None if rehearsal else RESULTS)

    device = torch.device(arguments.device)
    content = {
        "quick": arguments.quick,
        "environment": environment(device),
        "sections": {},
    }
    if file is not None and not rehearsal:
        content["sections"] = earlier_sections(file, content["environment"])
    print("\n".join(f"{key}: {value}" for key, value in content["environment"].items()), flush=True)
    for section in SECTIONS:
        if section.name in arguments.only:
            limit = section.seconds if arguments.seconds is None else arguments.seconds
            content["sections"][section.name] = carry_out(section, device, arguments.quick, limit)
            if file is not None:
                write_json(file, content)
    failed = [name for name in arguments.only if content["sections"][name]["failures"]]
    if failed:
        sys.exit(f"gpu: not as it must be: {', '.join(failed)}")


def earlier_sections(file: Path, found: dict[str, Any]) -> dict[str, Any]:
    """Returns the sections in a results file, where card, versions and a clean commit are equal."""
    if not file.exists() or found["commit"] == "unknown" or "+" in found["commit"]:
        return {}
    content = json.loads(file.read_text())
    known = content["environment"]
    same = all(found[key] == known.get(key) for key in found if key != "date")
    return content["sections"] if same else {}


def carry_out(section: Section, device: torch.device, quick: bool, limit: float) -> dict[str, Any]:
    """Runs one section, prints it, and returns its entry in the JSON file.

    An error is one of the entry's failures and does not end the program.
    """
    print(f"\n== {section.name}: {section.title}", flush=True)
    start = time.monotonic()
    run = Run(device, quick, start + limit)
    try:
        module = importlib.import_module(f"benchmarks.card.{section.module}")
        getattr(module, section.function)(run)
    except Exception as error:
        run.failures.append(_described(error))
        traceback.print_exc()
    seconds = time.monotonic() - start
    gc.collect()
    if run.on_cuda:
        torch.cuda.empty_cache()
    if run.rows:
        print(tables(run.rows))
    for line in [*run.notes, *(f"FAILED: {failure}" for failure in run.failures)]:
        print(line)
    print(f"({seconds:.1f} s)", flush=True)
    return {
        "title": section.title,
        "seconds": round(seconds, 2),
        "rows": run.rows,
        "notes": run.notes,
        "failures": run.failures,
    }


def _described(error: Exception) -> str:
    """Returns what a reader needs of an error: type, message, last line of our own code."""
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith(OURS):
        return f"not run: no module named {error.name}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).name}:{last.lineno}: {last.line}"
    message = str(error).strip().partition("\n")[0][:300]
    return f"{type(error).__name__}: {message} ({place})"


if __name__ == "__main__":
    main()
