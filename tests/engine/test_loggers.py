"""Tests the loggers besides TensorBoard: with stand-ins of their clients, and installed ones."""

import importlib
import importlib.util
import inspect
import json
import logging
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from detectron2.engine.train_loop import TrainerBase
from detectron2.utils import comm
from omegaconf import DictConfig, OmegaConf

from projects.clockdistill.engine import loggers
from projects.clockdistill.engine.config_file import ConfigError
from projects.clockdistill.engine.hooks import writers
from projects.clockdistill.engine.interruption import Interrupted
from projects.clockdistill.engine.loggers import check_loggers, remote_loggers
from projects.clockdistill.engine.run_folder import RunError
from projects.clockdistill.evaluation.report import write_results
from tests.engine.logger_clients import (
    Runs,
    offline_wandb,
    stand_in_mlflow,
    stand_in_wandb,
    stored_mlflow,
)

PERIOD, STEPS = 2, 8
ENDS = {  # finished, killed by SIGTERM, failed
    "wandb": {0: 0, 143: 143, 1: 1},
    "mlflow": {0: "FINISHED", 143: "KILLED", 1: "FAILED"},
}


def _is_installed(name: str) -> bool:
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None


def _needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not _is_installed(name), reason=f"{name} is not installed")


@pytest.fixture(
    params=[
        "stand-in of wandb",
        "stand-in of mlflow",
        pytest.param("wandb", marks=_needs("wandb")),
        pytest.param("mlflow", marks=_needs("mlflow")),
    ]
)
def client(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, Callable[[], Runs]]:
    """The logger's name, and what returns its runs."""
    monkeypatch.chdir(tmp_path)
    for variable in ("WANDB_PROJECT", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.setenv(variable, "")  # so that its value is restored
        monkeypatch.delenv(variable)
    name = request.param.split()[-1]
    if name != request.param:
        stand_in = {"wandb": stand_in_wandb, "mlflow": stand_in_mlflow}[name]
        runs = stand_in(monkeypatch)
        return name, lambda: runs
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlruns")
    read = {"wandb": offline_wandb, "mlflow": stored_mlflow}[name]
    return name, lambda: read(tmp_path)


class _Idle(TrainerBase):
    """A loop that trains nothing and evaluates every third step."""

    interrupted = 0

    def __init__(self, ends: tuple[int, Exception] | None = None) -> None:
        super().__init__()
        self._ends = ends

    def run_step(self) -> None:
        if self._ends and self.iter == self._ends[0]:
            raise self._ends[1]
        self.storage.put_scalar("total_loss", 1.0 / (self.iter + 1), smoothing_hint=False)
        if self.iter % 3 == 2:
            self.storage.put_scalar("bbox/AP-a (b)", float(self.iter), smoothing_hint=False)


def _config(folder: Path, *names: str) -> DictConfig:
    folder.mkdir(exist_ok=True)
    train = {"output_dir": str(folder), "loggers": list(names), "seed": 0}
    cfg = OmegaConf.create({"train": train, "optimizer": {"lr": 0.1, "betas": [0.9, 0.99]}})
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(cfg))
    return cfg


def _run(cfg: DictConfig, start: int = 0, ends: tuple[int, Exception] | None = None) -> None:
    with remote_loggers(cfg, resumed=start > 0) as remote:
        trainer = _Idle(ends)
        trainer.register_hooks(writers(cfg.train.output_dir, STEPS, PERIOD, remote))
        trainer.train(start, STEPS)
        write_results({"bbox": {"AP": 7.0, "APl": float("nan")}}, cfg.train.output_dir)


def _written(folder: Path, name: str) -> list[tuple[int, str, float]]:
    """Returns the values of metrics.json, with the names that the logger can have."""
    lines = [json.loads(text) for text in (folder / "metrics.json").read_text().splitlines()]
    names = {"bbox/AP-a (b)": "bbox/AP-a _b_"} if name == "mlflow" else {}
    return sorted(
        (line["iteration"], names.get(key, key), value)
        for line in lines
        for key, value in line.items()
        if key != "iteration"
    )


def _said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in caplog.messages if "train.loggers" in message]


def test_run_gets_what_metrics_json_has_also_in_two_parts(
    client: tuple[str, Callable[[], Runs]], tmp_path: Path
) -> None:
    name, runs = client
    cfg = _config(tmp_path / "run", name)
    with pytest.raises(Interrupted):
        _run(cfg, ends=(6, Interrupted(signal.SIGTERM)))
    ((first, given),) = runs().items()
    assert given.ends == [ENDS[name][143]]
    assert sorted(given.values) == _written(tmp_path / "run", name)
    cfg.optimizer.lr = 0.2
    _run(cfg, start=4)  # the last checkpoint was written before two of the steps
    ((second, given),) = runs().items()
    assert first == second == json.loads((tmp_path / "run" / "loggers.json").read_text())[name]
    assert given.ends[-1] == ENDS[name][0]
    assert sorted(given.values) == _written(tmp_path / "run", name)
    assert {iteration for iteration, _, _ in given.values} == {1, 2, 3, 5, 7}
    assert given.settings["project"] == "clockdistill"
    if name == "wandb":
        assert given.settings["optimizer"] == {"lr": 0.2, "betas": [0.9, 0.99]}
        assert given.files == {"results"}
    else:  # parameters cannot change
        assert float(given.settings["optimizer.lr"]) == 0.1
        assert float(given.settings["optimizer.betas.1"]) == 0.99
        assert given.files == {"config.yaml", "results.md"}


def test_failed_run_is_marked_and_a_new_run_is_another(
    client: tuple[str, Callable[[], Runs]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, runs = client
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    cfg = _config(tmp_path / "run", name)
    with pytest.raises(ZeroDivisionError):
        _run(cfg, ends=(3, ZeroDivisionError()))
    ((first, given),) = runs().items()
    assert given.ends == [ENDS[name][1]] and not given.files - {"config.yaml"}
    assert given.settings["project"] == "mine"
    (tmp_path / "run" / "metrics.json").unlink()
    _run(cfg)
    new = runs()[next(run_id for run_id in runs() if run_id != first)]
    assert new.ends == [ENDS[name][0]]
    assert sorted(new.values) == _written(tmp_path / "run", name)


def test_logger_that_fails_is_off_with_one_warning_that_tells_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runs = stand_in_mlflow(monkeypatch)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")

    def gone(metrics: dict[str, float], step: int) -> None:
        raise ConnectionError("https://me:pass@host/api (t0ken) is gone\nand more")

    monkeypatch.setattr(sys.modules["mlflow"], "log_metrics", gone)
    with caplog.at_level(logging.WARNING, logger=loggers.__name__):
        _run(_config(tmp_path / "run", "mlflow"))
    (message,) = _said(caplog)
    expected = "gets nothing more of this run: ConnectionError: https://***@host/api (***) is gone"
    assert message == f"train.loggers: mlflow failed, and {expected}"
    assert _written(tmp_path / "run", "mlflow")[-1][0] == STEPS - 1
    (given,) = runs.values()
    assert given.values == []


def test_logger_that_never_returns_does_not_hold_up_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stand_in_mlflow(monkeypatch)
    monkeypatch.setattr(loggers, "_PATIENCE", 0.1)
    back = threading.Event()
    monkeypatch.setattr(sys.modules["mlflow"], "log_metrics", lambda metrics, step: back.wait())
    _run(_config(tmp_path / "run", "mlflow"))
    assert "mlflow has not taken everything" in _said(caplog)[-1]
    assert _written(tmp_path / "run", "mlflow")[-1][0] == STEPS - 1
    back.set()


def test_logger_that_cannot_start_is_refused_and_a_resumed_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runs = stand_in_wandb(monkeypatch)
    stand_in_mlflow(monkeypatch)

    def refuse(run_name: str | None = None) -> None:
        raise ConnectionError("no server")

    monkeypatch.setattr(sys.modules["mlflow"], "start_run", refuse)
    cfg = _config(tmp_path / "run", "wandb", "mlflow")
    message = "train.loggers: mlflow cannot start: ConnectionError: no server\nFix: set MLFLOW_TRA"
    with pytest.raises(RunError, match=message):
        _run(cfg)
    (given,) = runs.values()
    assert given.ends == [1]
    with caplog.at_level(logging.WARNING, logger=loggers.__name__):
        _run(cfg, start=2)
    assert _said(caplog)[-1].endswith("no server; the run goes on without it")
    assert sorted(given.values) == _written(tmp_path / "run", "wandb")


def test_other_processes_send_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = stand_in_wandb(monkeypatch)
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    with remote_loggers(_config(tmp_path / "run", "wandb"), resumed=False) as remote:
        assert remote == []
    assert runs == {}


def test_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wandb").mkdir()  # W&B's own folder of an earlier run is no package
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for module in [name for name in sys.modules if name.split(".")[0] in ("wandb", "mlflow")]:
        monkeypatch.delitem(sys.modules, module)
    for name in ("wandb", "mlflow"):
        message = f"train.loggers names {name}, which is not installed.\nFix: pip install {name}"
        with pytest.raises(ConfigError, match=message):
            check_loggers([name])
    check_loggers([])
    stand_in_wandb(monkeypatch)
    check_loggers("wandb")


@pytest.mark.parametrize("name", [pytest.param(x, marks=_needs(x)) for x in ("wandb", "mlflow")])
def test_stand_ins_take_nothing_that_the_real_ones_do_not(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.import_module(name)
    {"wandb": stand_in_wandb, "mlflow": stand_in_mlflow}[name](monkeypatch)
    stand_in = sys.modules[name]
    pairs = {
        key: (value, getattr(real, key))
        for key, value in vars(stand_in).items()
        if inspect.isfunction(value)
    }
    if name == "wandb":
        methods = inspect.getmembers(stand_in.Run, inspect.isfunction)
        pairs |= {k: (v, getattr(real.Run, k)) for k, v in methods if k != "__init__"}
    assert len(pairs) >= 5
    for key, (ours, theirs) in pairs.items():
        taken = inspect.signature(theirs).parameters
        assert inspect.signature(ours).parameters.keys() <= taken.keys(), key
