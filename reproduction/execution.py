"""Carries out a plan: skips what is done, resumes what was interrupted, starts the rest."""

from collections.abc import Sequence
from pathlib import Path

from projects.clockdistill.engine.commands import shown
from projects.clockdistill.engine.jobs import Job, run_together
from reproduction.runs import (
    Action,
    Run,
    begin,
    copy,
    finish,
    next_action,
    read_record,
    refuse,
    twin,
)


def execute(phases: Sequence[Sequence[Run]], root: Path, at_once: int, lock: int) -> None:
    """Runs everything that is not done; a run that fails is noted and stops no other.

    Args:
        phases: each starts when the one before has ended.
        root: folder of all runs, where one may find its twin.
        at_once: runs at a time.
        lock: file descriptor that the runs keep open.
    """
    for phase in phases:
        actions: dict[Job, tuple[Run, Action]] = {}
        for run in phase:
            action, reason = next_action(run)
            source = twin(run, root) if action is Action.START else None
            if source is not None:
                print(f"{run.title}: the same as {source}", flush=True)
                copy(run, source)
                continue
            print(f"{run.title}: {action.value} ({reason})", flush=True)
            if action is Action.NOTHING:
                continue
            if run.teacher is not None and not run.teacher.is_file():
                refuse(run, _no_teacher(run))
                print(f"  {run.title} FAILED: {_no_teacher(run)}", flush=True)
                continue
            actions[run.job(action)] = (run, action)

        def starting(job: Job, actions: dict = actions) -> None:
            begin(*actions[job])

        def ended(job: Job, code: int, actions: dict = actions) -> None:
            run, _ = actions[job]
            reason = finish(run, code)
            if reason is not None:
                print(f"  {job.title} FAILED: {reason}", flush=True)
                return
            average_precision = read_record(run.folder)["metrics"]["AP"]
            print(f"  {job.title}: {average_precision:.1f} AP", flush=True)

        run_together(list(actions), starting, ended, at_once=at_once, inherited=[lock])


def _no_teacher(run: Run) -> str:
    return f"its teacher has no weights: {run.teacher} is not there"


def print_commands(phases: Sequence[Sequence[Run]], root: Path) -> None:
    """What `execute` would run, in order."""
    for run in (run for phase in phases for run in phase):
        action, reason = next_action(run)
        source = twin(run, root) if action is Action.START else None
        if source is not None:
            print(f"# {run.title}: the same as {source}")
        elif action is Action.NOTHING:
            print(f"# {run.title}: {reason}")
        else:
            print(shown(run.command(action)))
