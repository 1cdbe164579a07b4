"""Loggers besides TensorBoard and metrics.json: Weights & Biases and MLflow.

Server, project, name and tags of a run are set where the users of both clients set them: in the
clients' own environment variables (docs/training.md).
"""

import importlib.util
import json
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol

from detectron2.utils import comm
from detectron2.utils.events import EventWriter
from omegaconf import DictConfig, OmegaConf

from projects.clockdistill.engine import metrics_file
from projects.clockdistill.engine.atomic import atomic_write
from projects.clockdistill.engine.config_file import ConfigError, as_yaml, leaves
from projects.clockdistill.engine.interruption import Interrupted
from projects.clockdistill.engine.run_folder import RunError

_PROJECT = "clockdistill"  # of runs whose environment names none
_IDS = "loggers.json"  # in the run's folder: the client's id of the run, by logger
_PATIENCE = 60.0  # seconds that the end of a run waits for a client
_SECRETS = ("WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")

logger = logging.getLogger(__name__)


class _Client(Protocol):
    """One run at a client; all calls come from one thread.

    Attributes:
        id: with which a resumed run continues this one.
    """

    id: str

    def __init__(self, cfg: DictConfig, run_id: str | None) -> None: ...

    def log(self, metrics: dict[str, float], iteration: int) -> None: ...

    def finish(self, exit_code: int, folder: Path) -> None: ...


class _Wandb:
    """A run of Weights & Biases. Its x-axis is the iteration."""

    def __init__(self, cfg: DictConfig, run_id: str | None) -> None:
        import wandb

        name = os.environ.get("WANDB_NAME", Path(cfg.train.output_dir).name)
        self._wandb = wandb
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            config=OmegaConf.to_container(_plain(cfg)),
            allow_val_change=True,  # a resumed run may have other settings
            **({"id": run_id, "resume": "allow"} if run_id else {"name": name}),
        )
        self.id = self._run.id
        # W&B's own steps only rise: it would drop an evaluation that a resumed run makes up for
        self._run.define_metric("*", step_metric="iteration")

    def log(self, metrics: dict[str, float], iteration: int) -> None:
        self._run.log({**metrics, "iteration": iteration})

    def finish(self, exit_code: int, folder: Path) -> None:
        if exit_code == 0:
            results = json.loads((folder / "results.json").read_text())
            rows = [[f"{t}/{name}", x] for t, table in results.items() for name, x in table.items()]
            table = self._wandb.Table(columns=["metric", "value"], data=rows)
            self._run.log({"results": table})
        self._run.finish(exit_code=exit_code)


class _Mlflow:
    """A run of MLflow."""

    def __init__(self, cfg: DictConfig, run_id: str | None) -> None:
        import mlflow

        folder = Path(cfg.train.output_dir)
        self._mlflow = mlflow
        if run_id:
            mlflow.start_run(run_id=run_id)
        else:
            if "MLFLOW_EXPERIMENT_ID" not in os.environ:
                os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", _PROJECT)
            mlflow.start_run(run_name=folder.name)
            # MLflow refuses to change a parameter, and takes 500 characters of its value
            values = ((path, node[key]) for path, node, key in leaves(_plain(cfg)))
            mlflow.log_params({_allowed(path): str(value)[:500] for path, value in values})
        self.id = mlflow.active_run().info.run_id
        mlflow.log_artifact(str(folder / "config.yaml"))

    def log(self, metrics: dict[str, float], iteration: int) -> None:
        named = {_allowed(name): value for name, value in metrics.items()}
        self._mlflow.log_metrics(named, step=iteration)

    def finish(self, exit_code: int, folder: Path) -> None:
        if exit_code == 0:
            self._mlflow.log_artifact(str(folder / "results.md"))
        status = "KILLED" if exit_code > 128 else "FAILED" if exit_code else "FINISHED"
        self._mlflow.end_run(status)


def _plain(cfg: DictConfig) -> DictConfig:
    """Returns a config with its values instead of interpolations, and targets by name."""
    plain = OmegaConf.create(as_yaml(cfg))
    return OmegaConf.create(OmegaConf.to_container(plain, resolve=True))


def _allowed(name: str) -> str:
    """Replaces what MLflow does not allow in the name of a metric or a parameter."""
    return re.sub(r"[^\w\-. :/]", "_", name)


# name in train.loggers -> client, what to install, what to try if it cannot start
_KINDS: dict[str, tuple[type[_Client], str, str]] = {
    "wandb": (_Wandb, "wandb", "run `wandb login`, or set WANDB_MODE=offline"),
    "mlflow": (_Mlflow, "mlflow", "set MLFLOW_TRACKING_URI to a server that answers"),
}


def check_loggers(names: str | Sequence[str]) -> None:
    """Checks that the packages of all loggers are installed.

    Args:
        names: `train.loggers`.

    Raises:
        ConfigError: with what to install.
    """
    for name in _listed(names):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:  # a folder, such as W&B's own, has none
            raise ConfigError(
                f"train.loggers names {name}, which is not installed.\n"
                f"Fix: pip install {_KINDS[name][1]}"
            )


@contextmanager
def remote_loggers(cfg: DictConfig, *, resumed: bool) -> Iterator[list[EventWriter]]:
    """Opens the loggers of `train.loggers` and marks their runs at the end of the block.

    They are finished if the block ends, killed (wandb: the exit code) after `Interrupted`, and
    failed after any other exception. A resumed run continues the runs that its folder names.

    Args:
        cfg: the whole config.
        resumed: whether training goes on. What cannot start is left out then, with a warning.

    Yields:
        Writers of the metrics in the main process; none in the others.

    Raises:
        RunError: in every process, if a logger cannot start.
    """
    folder = Path(cfg.train.output_dir)
    opened, refusal = [], ""
    if comm.is_main_process():
        opened, refusal = _open(cfg, folder, resumed=resumed)
    refusal = comm.all_gather(refusal)[0]
    exit_code = 1
    try:
        if refusal:
            raise RunError(refusal)
        yield opened
        exit_code = 0
    except Interrupted as interrupted:
        exit_code = interrupted.exit_code
        raise
    finally:
        for one in opened:
            one.finish(exit_code)


def _open(cfg: DictConfig, folder: Path, *, resumed: bool) -> tuple[list["RemoteLogger"], str]:
    """Returns the loggers, and why one could not start or ""."""
    opened = []
    for name in _listed(cfg.train.loggers):
        client, _, advice = _KINDS[name]
        ids = json.loads((folder / _IDS).read_text()) if (folder / _IDS).is_file() else {}
        try:
            one = RemoteLogger(name, client, cfg, ids.get(name) if resumed else None)
        except Exception as error:
            text = f"train.loggers: {name} cannot start: {_message(error)}"
            if not resumed:
                return opened, f"{text}\nFix: {advice}, or leave {name} out of train.loggers"
            logger.warning("%s; the run goes on without it", text)
            continue
        opened.append(one)
        with atomic_write(folder / _IDS, "w") as handle:
            json.dump({**ids, name: one.id}, handle)
    return opened, ""


class RemoteLogger(EventWriter):
    """Sends the lines of metrics.json to a client, which neither ends nor slows the training.

    The client's calls wait in a thread of their own. After the first that fails there is a warning,
    and no more calls. Values that an earlier part of the run wrote, and a resumed run writes again,
    are not sent again.

    Args:
        name: for messages.
        client: opens the run at the client.
        cfg: the whole config.
        run_id: of a run to continue; None starts one.

    Attributes:
        id: of the run at the client.

    Raises:
        Exception: whatever the client raises if it cannot start.
    """

    def __init__(
        self, name: str, client: type[_Client], cfg: DictConfig, run_id: str | None
    ) -> None:
        self._name = name
        self._folder = Path(cfg.train.output_dir)
        self._file = self._folder / "metrics.json"
        self._position = 0  # in the file
        lines = metrics_file.read(self._file) if run_id else []
        self._sent = {(line["iteration"], key) for line in lines for key in line}
        self._calls: SimpleQueue[Callable[[_Client], None] | None] = SimpleQueue()
        opened: Future[str] = Future()
        # a daemon: a client that never returns must not keep the program from ending
        self._thread = threading.Thread(
            target=self._work, args=(client, cfg, run_id, opened), name=name, daemon=True
        )
        self._thread.start()
        self.id = opened.result()

    def _work(
        self, client: type[_Client], cfg: DictConfig, run_id: str | None, opened: Future
    ) -> None:
        # in this thread, since MLflow's active run is that of a thread
        try:
            run = client(cfg, run_id)
        except BaseException as error:
            opened.set_exception(error)
            return
        opened.set_result(run.id)
        while (call := self._calls.get()) is not None:
            try:
                call(run)
            except Exception as error:
                logger.warning(
                    "train.loggers: %s failed, and gets nothing more of this run: %s",
                    self._name,
                    _message(error),
                )
                return

    def write(self) -> None:
        with self._file.open() as handle:
            handle.seek(self._position)
            lines = [json.loads(text) for text in handle]
            self._position = handle.tell()
        for line in lines:
            iteration = line.pop("iteration")
            new = {key: x for key, x in line.items() if (iteration, key) not in self._sent}
            if new:
                self._calls.put(lambda run, new=new, at=iteration: run.log(new, at))

    def finish(self, exit_code: int) -> None:
        """Marks the end of the run at the client and waits for it, but not for long.

        Args:
            exit_code: 0, 128 + the number of a signal, or another one after an error.
        """
        self._calls.put(lambda run: run.finish(exit_code, self._folder))
        self._calls.put(None)
        self._thread.join(_PATIENCE)
        if self._thread.is_alive():
            logger.warning(
                "train.loggers: %s has not taken everything within %.0f s", self._name, _PATIENCE
            )


def _listed(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(dict.fromkeys(names))


def _message(error: BaseException) -> str:
    """Returns the first line of an error, without passwords and keys."""
    text = next(iter(str(error).strip().splitlines()), "")
    text = re.sub(r"://[^/\s]*@", "://***@", f"{type(error).__name__}: {text}")
    for secret in filter(None, map(os.environ.get, _SECRETS)):
        text = text.replace(secret, "***")
    return text[:300]
