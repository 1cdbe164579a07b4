"""Tests tools/train_net.py from end to end, on a tiny DINO and on a student of one."""

import json
from pathlib import Path

import pytest
import torch
import train_net
from detectron2.config import instantiate

from projects.clockdistill.deployment.model_spec import ModelSpec
from projects.clockdistill.engine.config_file import load_config
from projects.clockdistill.engine.trainer import Trainer
from tests.engine.logger_clients import stand_in_mlflow
from tests.tiny_run import DISTILLED, PLAIN, TEACHER, tiny_overrides

AT_THE_END = "train.eval_period=0"


@pytest.fixture
def overrides(tmp_path: Path) -> list[str]:
    return tiny_overrides(tmp_path)


def run(overrides: list[str], *more: str, config: str = PLAIN, option: str | None = None) -> None:
    options = [option] if option else []
    train_net.main(["--config-file", config, *options, *overrides, *more])


def refused(overrides: list[str], *more: str, **kwargs: str) -> str:
    with pytest.raises(SystemExit) as caught:
        run(overrides, *more, **kwargs)
    message = str(caught.value)
    assert len(message.splitlines()) <= 3
    return message


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["model"]


def assert_same(one: Path, other: Path) -> None:
    torch.testing.assert_close(weights(one), weights(other), rtol=0, atol=0)


def losses(folder: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return [(line["iteration"], line["total_loss"]) for line in lines if "total_loss" in line]


def test_run_learns_leaves_everything_it_promises_and_evaluates_again(overrides, tmp_path) -> None:
    run(
        overrides,
        "train.max_iter=60",
        "train.eval_period=30",
        "train.checkpointer.period=30",
        "train.model_ema.enabled=True",
    )
    output = tmp_path / "output"
    for name in (
        "model_0000029.pth",
        "model_final.pth",
        "model_best.pth",
        "last_checkpoint",
        "config.yaml",
        "metrics.json",
        "log.txt",
        "results.json",
        "results.md",
        "report.html",
        "inference/coco_instances_results.json",
    ):
        assert (output / name).is_file(), name
    assert list(output.glob("events.out.tfevents.*"))
    for name in ("model_best.pth", "model_final.pth"):
        text = torch.load(output / name, weights_only=True)["model_spec"]
        assert ModelSpec.from_json(text).class_names == ("red", "green")
    results = json.loads((output / "results.json").read_text())["bbox"]
    assert {"AP", "AP50", "AP75", "APs", "APm", "APl", "AP-red", "AP-green"} == results.keys()
    assert results["AP50"] > 10.0
    last = json.loads((output / "metrics.json").read_text().splitlines()[-1])
    assert {"loss_class", "loss_bbox", "total_loss", "lr", "grad_norm", "data_time"} <= last.keys()
    assert last["bbox/AP"] == pytest.approx(results["AP"])
    assert losses(output)[-1][1] < 0.7 * losses(output)[0][1]

    saved_config = (output / "config.yaml").read_bytes()
    for name in ("results.json", "report.html"):
        (output / name).unlink()
    final = f"train.init_checkpoint={output / 'model_final.pth'}"
    run(overrides, final, option="--eval-only")
    assert json.loads((output / "results.json").read_text())["bbox"] == results
    assert f"reaches {results['AP']:.1f} AP" in (output / "report.html").read_text()
    assert (output / "config.yaml").read_bytes() == saved_config


def test_saved_config_runs_again(overrides, tmp_path) -> None:
    run(overrides, "train.max_iter=2", "optimizer.lr=0.02")
    saved = str(tmp_path / "output" / "config.yaml")
    cfg = load_config(saved, [])
    assert cfg.optimizer.lr == 0.02
    model = instantiate(cfg.model)
    model.load_state_dict(weights(tmp_path / "output" / "model_final.pth"), strict=True)
    run([f"train.output_dir={tmp_path / 'again'}"], config=saved)
    assert_same(tmp_path / "output" / "model_final.pth", tmp_path / "again" / "model_final.pth")


def test_same_seed_gives_the_same_run_and_another_seed_another(overrides, tmp_path) -> None:
    def run_losses(name: str, seed: int) -> list[tuple[int, float]]:
        output = [f"train.output_dir={tmp_path / name}", f"train.seed={seed}", AT_THE_END]
        run(overrides, *output, "train.log_period=1", "train.max_iter=3")
        return losses(tmp_path / name)

    first = run_losses("a", 1)
    assert len(first) == 3
    assert run_losses("b", 1) == first
    assert run_losses("c", 2) != first


def test_run_that_stops_early_is_finished_and_its_logger_knows(
    overrides, tmp_path, monkeypatch
) -> None:
    given = stand_in_mlflow(monkeypatch)
    # the weights stay, so the second evaluation is not better than the first
    options = ["optimizer.lr=1e-12", "train.eval_period=2", "train.loggers=mlflow"]
    run(overrides, *options, "train.early_stopping=1")
    output = tmp_path / "output"
    assert [step for step, _ in losses(output)] == [1, 3]
    assert (output / "last_checkpoint").read_text() == "model_final.pth"
    ((run_id, logged),) = given.items()
    assert max(step for step, _, _ in logged.values) == 3
    assert logged.files == {"config.yaml", "results.md"}

    (output / "results.json").unlink()
    run(overrides, *options, "train.early_stopping=1", option="--resume")
    assert (output / "results.json").is_file()
    run(overrides, *options, option="--resume")
    assert [step for step, _ in losses(output)] == [1, 3, 5, 7]
    assert given.keys() == {run_id}
    assert logged.ends == ["FINISHED"] * 3
    assert len({(step, name) for step, name, _ in logged.values}) == len(logged.values)


@pytest.mark.parametrize("ema", [False, True])
def test_resumed_run_equals_an_uninterrupted_one(overrides, tmp_path, ema: bool) -> None:
    options = [f"train.model_ema.enabled={ema}", "train.model_ema.decay=0.9"]
    run(overrides, *options, f"train.output_dir={tmp_path / 'straight'}", AT_THE_END)

    original = Trainer.run_step

    def run_step(trainer) -> None:
        if trainer.iter == 5:  # between two checkpoints, as a power failure would end it
            raise ConnectionAbortedError
        original(trainer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "run_step", run_step)
        with pytest.raises(ConnectionAbortedError):
            run(overrides, *options)
    output = tmp_path / "output"
    assert (output / "last_checkpoint").read_text() == "model_0000003.pth"
    run(overrides, *options, option="--resume")
    assert_same(output / "model_final.pth", tmp_path / "straight" / "model_final.pth")

    # a finished run is only evaluated
    written = (output / "model_final.pth").stat().st_mtime_ns
    (output / "results.json").unlink()
    run(overrides, *options, option="--resume")
    assert (output / "model_final.pth").stat().st_mtime_ns == written
    assert (output / "results.json").is_file()


def test_resume_applies_learning_rate_and_weight_decay_and_refuses_another_seed(
    overrides, tmp_path, caplog
) -> None:
    output = tmp_path / "output"
    run(overrides, "train.max_iter=4", AT_THE_END)
    more = ["train.log_period=1", AT_THE_END, "optimizer.lr=0.125", "optimizer.weight_decay=0.5"]
    message = refused(overrides, *more, "train.seed=1", option="--resume")
    assert "train.seed=1, but the run" in message and "Fix: leave train.seed" in message
    assert load_config(str(output / "config.yaml"), []).optimizer.lr != 0.125

    more.append("optimizer.params.lr_factors.backbone=0.5")
    run(overrides, *more, option="--resume")
    log = (output / "log.txt").read_text()
    assert "optimizer.lr: 0.0015 -> 0.125" in log
    assert "Cannot find the hook" not in log
    lines = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    # step 5 of 8 of the cosine: (1 + cos(pi * 5 / 8)) / 2 = 0.3087 of the rate
    assert next(x["lr"] for x in lines if x["iteration"] == 5) == pytest.approx(
        0.3087 * 0.125, 1e-3
    )
    trainer = torch.load(output / "model_final.pth", weights_only=True)["trainer"]
    groups = trainer["optimizer"]["param_groups"]
    assert [group["initial_lr"] for group in groups] == [0.125, 0.0625]
    assert {group["weight_decay"] for group in groups} == {0.5}
    assert load_config(str(output / "config.yaml"), []).optimizer.lr == 0.125


def test_what_a_run_needs_is_not_lost(overrides, tmp_path) -> None:
    output = tmp_path / "output"
    run(overrides, "train.max_iter=4", AT_THE_END)
    kept = (output / "config.yaml").read_text()
    own = [f"train.init_checkpoint={output / 'model_final.pth'}"]
    message = refused(overrides, *own, AT_THE_END, option="--overwrite")
    assert "which --overwrite empties" in message
    absent = ["train.init_checkpoint=nowhere.pth"]
    assert "no such file" in refused(overrides, *absent, AT_THE_END, option="--overwrite")
    frozen = ["train.max_iter=4", AT_THE_END, "model.backbone.freeze_at=2"]
    assert "other parameter groups" in refused(overrides, *frozen, option="--resume")
    assert (output / "config.yaml").read_text() == kept
    assert (output / "model_final.pth").is_file()

    # an end before the steps that were done, with a schedule that ends there
    (output / "model_final.pth").rename(output / "model_0000003.pth")
    (output / "last_checkpoint").write_text("model_0000003.pth")
    run(overrides, "train.max_iter=3", AT_THE_END, option="--resume")
    assert (output / "model_final.pth").is_file()
    assert load_config(str(output / "config.yaml"), []).train.max_iter == 3


def test_mixed_precision_runs_on_the_cpu(overrides, tmp_path) -> None:
    run(overrides, "train.amp.enabled=True", "train.amp.dtype=bfloat16", "train.max_iter=2")
    final = weights(tmp_path / "output" / "model_final.pth")
    assert all(value.isfinite().all() for value in final.values())


def test_distillation_saves_a_plain_student_and_resumes(overrides, tmp_path) -> None:
    teacher, output = tmp_path / "teacher", tmp_path / "output"
    short = ["train.max_iter=2", AT_THE_END, f"train.output_dir={teacher}"]
    run(tiny_overrides(tmp_path, TEACHER), *short, config=TEACHER)

    distilled = [
        *tiny_overrides(tmp_path, DISTILLED),
        f"model.teacher_checkpoint={teacher / 'model_final.pth'}",
        "train.max_iter=4",
        "train.checkpointer.period=2",
        "train.amp.enabled=True",
        "train.accumulate_steps=2",
        AT_THE_END,
    ]
    run(distilled, config=DISTILLED)
    whole = torch.load(output / "model_final.pth", weights_only=True)
    assert whole.keys() == {"model", "distill", "trainer", "model_spec"}
    assert not any("teacher" in key for part in ("model", "distill") for key in whole[part])
    metrics = (output / "metrics.json").read_text()
    for name in ("memory", "class", "bbox", "giou"):
        assert f"loss_distill_{name}" in metrics
    assert "AP50" in (output / "log.txt").read_text()  # the teacher's check

    # half of the run lost: the same weights again, so the same sampled queries
    (output / "last_checkpoint").write_text("model_0000001.pth")
    run(distilled, config=DISTILLED, option="--resume")
    again = torch.load(output / "model_final.pth", weights_only=True)
    for part in ("model", "distill"):
        torch.testing.assert_close(again[part], whole[part], rtol=0, atol=0)

    # the plain config and the distillation config both evaluate the student
    final = f"train.init_checkpoint={output / 'model_final.pth'}"
    run(distilled, final, config=DISTILLED, option="--eval-only")
    results = (output / "results.json").read_text()
    run(overrides, final, option="--eval-only")
    assert (output / "results.json").read_text() == results


def test_the_model_is_compiled_on_request_and_only_to_train(
    overrides, tmp_path, monkeypatch
) -> None:
    compiled = []
    monkeypatch.setattr(train_net, "compile_model", compiled.append)
    run(overrides, "train.compile=True", "train.max_iter=1")
    assert len(compiled) == 1
    final = f"train.init_checkpoint={tmp_path / 'output' / 'model_final.pth'}"
    monkeypatch.setenv("PATH", "")  # no compiler
    monkeypatch.delenv("CXX", raising=False)
    run(overrides, "train.compile=True", final, option="--eval-only")
    assert "no compiler" in refused(overrides, "train.compile=True", "train.max_iter=1")


def test_a_backend_of_sampling_that_is_not_there_is_refused(overrides, monkeypatch) -> None:
    monkeypatch.setenv("CLOCKDISTILL_SAMPLING", "triton_")
    assert "CLOCKDISTILL_SAMPLING=triton_ is no backend" in refused(overrides)


def test_distillation_without_a_teacher_is_refused(tmp_path) -> None:
    message = refused(tiny_overrides(tmp_path, DISTILLED), config=DISTILLED)
    assert "model.teacher_checkpoint is empty" in message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.max_itr=3", "did you mean train.max_iter?"),
        ("model.num_classes=80", "Fix: set model.num_classes=2"),
        ("train.init_checkpoint=nowhere.pth", "train.init_checkpoint=nowhere.pth"),
        (
            "train.model_ema={enabled:True,decay:2.0}",
            "model_ema.decay=2.0: expected a number of at",
        ),
    ],
)
def test_bad_config_ends_at_once_with_key_and_fix(overrides, tmp_path, override, message) -> None:
    assert message in refused(overrides, override)
    assert not (tmp_path / "output" / "metrics.json").exists()


def test_evaluation_without_weights_names_them(overrides) -> None:
    assert "Fix: add train.init_checkpoint=" in refused(overrides, option="--eval-only")


def test_gpus_that_are_missing_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="torchrun --nproc-per-node 2"):
        train_net.main(["--config-file", PLAIN, "--num-gpus", "2"])
