"""SIGTERM and Ctrl-C: the run finishes its step, saves and leaves; a second one ends it at once."""

import atexit
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from detectron2.data.build import worker_init_reset_seed
from torch.utils.data import DataLoader

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_received: list[int] = []


class Interrupted(Exception):
    """A run that a signal ends, between two steps.

    Attributes:
        exit_code: 128 + the signal's number, as shells have it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.exit_code = 128 + number


def received() -> int:
    """Returns the number of the first signal since `deferred_signals` began, or 0."""
    return _received[0] if _received else 0


def check() -> None:
    """Raises `Interrupted` if there was a signal."""
    if _received:
        raise Interrupted(_received[0])


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Makes SIGTERM and SIGINT wait for `check` or `received` during the block.

    A signal that is ignored, as under nohup, stays ignored. Signals reach the main thread alone, so
    in another thread the block changes nothing.
    """
    owner = os.getpid()

    def handle(number: int, frame: object) -> None:
        if os.getpid() != owner:  # a forked data worker: its end is up to this process
            return
        _received.append(number)
        signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
        name = signal.Signals(number).name
        text = f"\n{name}: finishing the step and saving; a second {name} ends the run at once\n"
        os.write(sys.__stderr__.fileno(), text.encode())  # print may be interrupted in itself

    _received.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _received.clear()


def shield_workers(loader: object) -> None:
    """Lets a loader's workers survive signals for the whole process group, of a terminal or Slurm.

    Otherwise they are gone before the step can finish. A worker still ends with its loader.

    Args:
        loader: a DataLoader; others are left as they are.
    """
    if isinstance(loader, DataLoader):
        loader.worker_init_fn = _start_worker


def _start_worker(worker: int) -> None:
    def first_sigterm(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)

    worker_init_reset_seed(worker)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, first_sigterm)
    sys.excepthook = _except_lost_connection


def _except_lost_connection(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    # a worker shares tensors through a thread of its own, which loses its connection where the
    # training process ends while it takes a batch; what ended that process is said there
    if not isinstance(error, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, trace)


@atexit.register
def _end_workers() -> None:
    """Ends the workers that are left when the program ends.

    Python ends them by SIGTERM, which they would outlive, and waits for them.
    """
    workers = [child for child in multiprocessing.active_children() if child.daemon]
    if workers:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would report their end
    for worker in workers:
        worker.kill()
