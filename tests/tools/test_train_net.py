"""tools/train_net.py from end to end, on a fake detector of a few hundred weights."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import train_net
from detectron2.config import instantiate

from projects.clockdistill.engine.config_file import load_config
from tests.fakes import write_fake_config

_REPOSITORY = Path(train_net.__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _loggers_as_before() -> Iterator[None]:
    """A run gives these loggers handlers and cuts them off from pytest's; undo it."""
    names = ("detectron2", "fvcore", "projects.clockdistill")
    kept = {
        name: (logging.getLogger(name).handlers[:], logging.getLogger(name).propagate)
        for name in names
    }
    yield
    for name, (handlers, propagate) in kept.items():
        logging.getLogger(name).handlers[:] = handlers
        logging.getLogger(name).propagate = propagate


@pytest.fixture
def config(tmp_path: Path) -> str:
    return str(write_fake_config(tmp_path))


def _run(config: str, *arguments: str) -> None:
    train_net.main(["--config-file", config, *arguments])


def _refused(config: str, *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        _run(config, *arguments)
    return str(caught.value)


def _weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["model"]


def _same(one: Path, other: Path) -> bool:
    first, second = _weights(one), _weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def _losses(folder: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return [(line["iteration"], line["total_loss"]) for line in lines if "total_loss" in line]


def test_run_learns_and_leaves_everything_it_promises(config: str, tmp_path: Path) -> None:
    _run(config, "train.max_iter=120", "train.eval_period=60", "train.checkpointer.period=60")
    output = tmp_path / "output"
    for name in (
        "model_0000059.pth",
        "model_final.pth",
        "model_best.pth",
        "last_checkpoint",
        "config.yaml",
        "metrics.json",
        "log.txt",
        "results.json",
        "results.md",
        "inference/coco_instances_results.json",
    ):
        assert (output / name).is_file(), name
    assert list(output.glob("events.out.tfevents.*"))
    results = json.loads((output / "results.json").read_text())["bbox"]
    assert {"AP", "AP50", "AP75", "APs", "APm", "APl", "AP-red", "AP-green"} == results.keys()
    assert results["AP50"] > 10.0
    last = json.loads((output / "metrics.json").read_text().splitlines()[-1])
    assert {"loss_class", "loss_bbox", "total_loss", "lr", "grad_norm", "data_time"} <= last.keys()
    assert last["bbox/AP"] == pytest.approx(results["AP"])
    losses = _losses(output)
    assert losses[-1][1] < losses[0][1] / 3


def test_saved_config_runs_again(config: str, tmp_path: Path) -> None:
    _run(config, "train.max_iter=2", "optimizer.lr=0.02")
    saved = str(tmp_path / "output" / "config.yaml")
    cfg = load_config(saved, [])
    assert cfg.optimizer.lr == 0.02
    model = instantiate(cfg.model)
    model.load_state_dict(_weights(tmp_path / "output" / "model_final.pth"), strict=True)
    _run(saved, f"train.output_dir={tmp_path / 'again'}")
    assert _same(tmp_path / "output" / "model_final.pth", tmp_path / "again" / "model_final.pth")


def test_same_seed_gives_the_same_run_and_another_seed_another(config: str, tmp_path: Path) -> None:
    def losses(name: str, seed: int) -> list[tuple[int, float]]:
        output = tmp_path / name
        _run(config, f"train.output_dir={output}", f"train.seed={seed}", "train.log_period=1")
        return _losses(output)

    first = losses("a", 1)
    assert len(first) == 8
    assert losses("b", 1) == first
    assert losses("c", 2) != first


@pytest.mark.parametrize("ema", [False, True])
def test_resumed_run_equals_an_uninterrupted_one(config: str, tmp_path: Path, ema: bool) -> None:
    options = [f"train.model_ema.enabled={ema}", "train.model_ema.decay=0.9"]
    _run(config, *options, f"train.output_dir={tmp_path / 'straight'}")

    def stop_after_five() -> None:
        """A run that dies between two checkpoints, as a power cut would end it."""
        original = train_net.Trainer.run_step

        def run_step(trainer) -> None:
            if trainer.iter == 5:
                raise ConnectionAbortedError
            original(trainer)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(train_net.Trainer, "run_step", run_step)
            with pytest.raises(ConnectionAbortedError):
                _run(config, *options)

    stop_after_five()
    output = tmp_path / "output"
    assert (output / "last_checkpoint").read_text() == "model_0000003.pth"
    _run(config, "--resume", *options)
    assert _same(output / "model_final.pth", tmp_path / "straight" / "model_final.pth")


def test_resume_of_a_finished_run_only_evaluates(config: str, tmp_path: Path) -> None:
    _run(config)
    final = tmp_path / "output" / "model_final.pth"
    written = final.stat().st_mtime_ns
    (tmp_path / "output" / "results.json").unlink()
    _run(config, "--resume")
    assert final.stat().st_mtime_ns == written
    assert (tmp_path / "output" / "results.json").is_file()


def test_evaluation_repeats_the_runs_figures(config: str, tmp_path: Path) -> None:
    _run(config, "train.max_iter=60", "train.model_ema.enabled=True")
    output = tmp_path / "output"
    results = json.loads((output / "results.json").read_text())
    assert results["bbox"]["AP50"] > 0
    saved_config = (output / "config.yaml").read_bytes()
    (output / "results.json").unlink()
    _run(config, "--eval-only", f"train.init_checkpoint={output / 'model_final.pth'}")
    assert json.loads((output / "results.json").read_text()) == results
    assert (output / "config.yaml").read_bytes() == saved_config


def test_evaluation_without_weights_names_them(config: str) -> None:
    assert "train.init_checkpoint=" in _refused(config, "--eval-only")


def test_mixed_precision_runs_on_the_cpu(config: str, tmp_path: Path) -> None:
    _run(config, "train.amp.enabled=True", "train.amp.dtype=bfloat16")
    assert all(
        value.isfinite().all() for value in _weights(tmp_path / "output/model_final.pth").values()
    )


def test_distillation_trains_saves_a_plain_student_and_resumes(tmp_path: Path) -> None:
    teacher = str(write_fake_config(tmp_path))
    _run(teacher, "train.max_iter=60", f"train.output_dir={tmp_path / 'teacher'}")
    checkpoint = tmp_path / "teacher" / "model_final.pth"
    config = str(write_fake_config(tmp_path, distill=True))
    option = f"model.teacher_checkpoint={checkpoint}"
    output = tmp_path / "output"

    _run(config, option, f"train.output_dir={tmp_path / 'straight'}")
    _run(config, option, "train.max_iter=8")
    content = torch.load(output / "model_final.pth", weights_only=True)
    assert content.keys() == {"model", "distill", "trainer"}
    assert content["model"].keys() == _weights(checkpoint).keys()
    assert "loss_distill_memory" in (output / "metrics.json").read_text()
    assert "teacher: AP50" in (output / "log.txt").read_text()

    # two thirds of the run lost
    (output / "last_checkpoint").write_text("model_0000003.pth")
    _run(config, "--resume", option)
    assert _same(output / "model_final.pth", tmp_path / "straight" / "model_final.pth")

    # the student alone: its plain config and the distillation config both evaluate it
    weights = f"train.init_checkpoint={output / 'model_final.pth'}"
    _run(config, "--eval-only", weights)
    distilled = (output / "results.json").read_text()
    _run(teacher, "--eval-only", weights)
    assert (output / "results.json").read_text() == distilled


def test_distillation_without_a_teacher_is_refused(tmp_path: Path) -> None:
    config = str(write_fake_config(tmp_path, distill=True))
    assert "model.teacher_checkpoint is empty" in _refused(config)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train.max_itr=3"], "did you mean train.max_iter?"),
        (["dataloader.train.dataset.names=kitty_train"], "kitty_train is no registered dataset"),
        (["model.num_classes=80"], "set model.num_classes=2"),
        (["train.init_checkpoint=nowhere.pth"], "train.init_checkpoint=nowhere.pth"),
    ],
)
def test_bad_config_ends_at_once_with_key_and_mend(
    config: str, tmp_path: Path, arguments: list[str], message: str
) -> None:
    assert message in _refused(config, *arguments)
    assert not (tmp_path / "output" / "metrics.json").exists()


def test_gpus_that_are_not_there_are_refused(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "torchrun --nproc-per-node 2" in _refused(config, "--num-gpus", "2")
    assert "add train.device=cpu" in _refused(config, "train.device=cuda")


def test_two_processes_of_torchrun_train_one_model_and_evaluate(
    config: str, tmp_path: Path
) -> None:
    """Each process also writes the weights that it holds at the end; they must be the same."""
    script = tmp_path / "both.py"
    script.write_text(
        "import sys, torch\n"
        "from detectron2.utils import comm\n"
        "import train_net\n"
        "original = train_net.Trainer.train\n"
        "def train(self, start, end):\n"
        "    original(self, start, end)\n"
        f"    path = r'{tmp_path}' + f'/rank{{comm.get_rank()}}.pth'\n"
        "    torch.save({'model': self.model.module.state_dict()}, path)\n"
        "train_net.Trainer.train = train\n"
        "train_net.main(sys.argv[1:])\n"
    )
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    options = ["train.max_iter=5", "train.eval_period=0", "model.dropout=0.0"]
    paths = [str(_REPOSITORY), str(_REPOSITORY / "tools")]
    subprocess.run(
        [*launcher, "--nproc-per-node", "2", str(script), "--config-file", config, *options],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=240,
        capture_output=True,
        text=True,
    )
    # a batch norm's running statistics are each process's own (train.ddp.broadcast_buffers)
    ranks = [_weights(tmp_path / f"rank{rank}.pth") for rank in (0, 1)]
    learned = [key for key in ranks[0] if "running" not in key]
    assert all(torch.equal(ranks[0][key], ranks[1][key]) for key in learned)
    assert all(value.isfinite().all() for value in ranks[0].values())
    output = tmp_path / "output"
    assert _same(output / "model_final.pth", tmp_path / "rank0.pth")
    assert json.loads((output / "results.json").read_text())["bbox"].keys() >= {"AP", "AP-red"}
    steps = [iteration for iteration, _ in _losses(output)]
    assert steps == [1, 3, 4]  # written by one of the two
    # all 8 test images, half of them seen by each process, 20 detections an image
    found = json.loads((output / "inference" / "coco_instances_results.json").read_text())
    assert sorted({x["image_id"] for x in found}) == list(range(8))
    assert len(found) == 8 * 20
