"""Tests types and ranges of config values, which are checked before anything is built."""

import math
import re

import pytest
import torch
from omegaconf import DictConfig

from projects.clockdistill.engine.checks import check_config, check_device
from projects.clockdistill.engine.config_file import ConfigError, load_config
from projects.clockdistill.engine.expected import TABLE, expected_of
from tests.tiny_run import DISTILLED, PLAIN

WHOLE = "expected a whole number"
REFUSED = [
    ("train.max_iter=1e4", rf"train\.max_iter=10000\.0: {WHOLE}.* Fix: train\.max_iter=10000$"),
    ("train.max_iter=0", WHOLE),
    ("train.max_iter=99999999999999999999", WHOLE),
    ("train.max_iter=True", WHOLE),
    ("train.max_iter=range(1,3)", WHOLE),
    ("train.seed=null", r"train\.seed=null: expected a whole number"),
    ("train.seed=5000000000", WHOLE),
    ("train.log_period=0", rf"{WHOLE} of at least 1"),
    ("train.eval_period=-1", WHOLE),
    ("train.accumulate_steps=two", WHOLE),
    ("train.checkpointer.period=1.5", WHOLE),
    ("train.checkpointer=3", "expected one of its keys, period, max_to_keep"),
    ("train=3", "expected one of its keys, output_dir, "),
    ("train.model_ema.decay=1", "expected a number of at least 0 and below 1"),
    ("train.amp.enabled=no", "expected True or False"),
    ("train.amp.enabled=1", "expected True or False"),
    ("train.ddp.find_unused_parameters=maybe", "expected True or False"),
    ("train.clip_grad.params.max_norm=-1", "0 disables clipping"),
    ("train.clip_grad.params.max_norm=nan", "0 disables clipping"),
    ("train.best_metric=AP", "such as bbox/AP"),
    ("train.best_metric=[bbox/AP]", "such as bbox/AP"),
    ("train.output_dir=[a,b]", "expected a folder"),
    ("train.output_dir=", "expected a folder"),
    ("train.init_checkpoint=[a,b]", "expected a path"),
    ("train.device=nonsense", "expected a device such as cpu or cuda"),
    ("train.device=0", "expected a device|finds no such device"),
    ("train.device=meta", r"finds no such device\.\nFix: use train\.device="),
    ("optimizer.lr=abc", r"optimizer\.lr=abc: expected a finite number above 0"),
    ("optimizer.lr=0", "expected a finite number above 0"),
    ("optimizer.lr=inf", "expected a finite number above 0"),
    ("optimizer.weight_decay=-1e-4", "expected a finite number of at least 0"),
    ("optimizer.params.lr_factors.backbone=x", r"lr_factors\.backbone=x: expected a finite number"),
    ("optimizer.betas=[2,3]", r"optimizer: Invalid beta"),
    ("optimizer.betas=3", r"optimizer\.betas=3: expected a list of 2"),
    ("optimizer.amsgrad=7", r"optimizer\.amsgrad=7: expected True or False"),
    ("optimizer._target_=torch.optim.Nothing", r"optimizer\._target_=torch\.optim\.Nothing"),
    ("optimizer=null", "expected the keys of a config file"),
    ("lr_multiplier.warmup_length.steps=abc", r"warmup_length\.steps=abc: expected a whole number"),
    ("lr_multiplier.warmup_factor=-5", "lr_multiplier gives -"),
    ("lr_multiplier.scheduler=null", "lr_multiplier"),
    ("dataloader.train.total_batch_size=0", WHOLE),
    ("dataloader.train.num_workers=-1", WHOLE),
    ("dataloader.train.dataset.names=[]", "expected a name or a list of names"),
    ("dataloader.train.dataset.names=[a,1]", "expected a name or a list of names"),
    ("dataloader.train.mapper.augmentation=3", r"dataloader\.train\.mapper"),
    ("model.num_classes=null", r"model\.num_classes=null: expected a whole number"),
    ("dataloader.train.mapper=null", "expected a data mapper"),
    ("dataloader.evaluator=null", r"dataloader\.evaluator=None: expected a lazy call"),
    ("dataloader.evaluator=[null]", r"dataloader\.evaluator=\[None\]: expected at least one lazy"),
    ("dataloader.evaluator.1=3", r"dataloader\.evaluator\.1=3: expected a lazy call"),
    ("optimizer.params=null", r"optimizer\.params=None: expected a lazy call"),
    ("model.pixel_std=[0,1,1]", "3 numbers other than 0"),
    ("model.criterion.matcher=null", "expected a"),
    ("model._target_=torch.nn.Nothing", r"model\._target_=torch\.nn\.Nothing: Error loading"),
    ("model.num_queries=1.5", WHOLE),
    ("model.aux_loss=perhaps", r"model\.aux_loss=perhaps: expected True or False"),
    ("model.backbone=3", r"model\.backbone=3: expected a Module"),
    ("model.pixel_mean=[a]", r"model\.pixel_mean=.*: expected 3 numbers"),
]


def config(*overrides: str, name: str = PLAIN) -> DictConfig:
    return load_config(name, ["train.device=cpu", *overrides])


@pytest.mark.parametrize(("override", "message"), REFUSED, ids=[one for one, _ in REFUSED])
def test_a_value_is_refused_with_its_key_and_what_was_expected(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_config(config(override))
    text = str(caught.value)
    assert re.search(message, text), text
    assert override.partition("=")[0].partition(".")[0] in text
    assert len(text.splitlines()) <= 2


@pytest.mark.parametrize(
    "override",
    [
        "train.seed=-1",
        "train.eval_period=0",
        "train.clip_grad.params.max_norm=0",
        "train.clip_grad.params.max_norm=inf",
        "train.clip_grad.params.norm_type=inf",
        "train.init_checkpoint=null",
        "train.output_dir=20241127",
        "optimizer.lr=1",
        "optimizer.betas=[0.8,0.9]",
        "dataloader.train.dataset.names=[a,b]",
        "dataloader.train.num_workers=0",
        "model.backbone.num_classes=10",
    ],
)
def test_a_value_in_its_range_passes(override: str) -> None:
    check_config(config(override))


@pytest.mark.parametrize("loss", ["memory_loss", "logit_loss", "query_groups.general"])
def test_a_part_of_the_method_may_be_switched_off(loss: str) -> None:
    check_config(config(f"model.{loss}=null", name=DISTILLED))


def test_a_device_number_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: cuda)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    assert check_device("cuda:1", "train.device") == "cuda:1"
    with pytest.raises(ConfigError, match=r"train\.device=cuda:9, but PyTorch finds 2 .*"):
        check_device("cuda:9", "train.device")


def test_the_table_names_keys_that_exist() -> None:
    train = config().train
    for key in (key for key in TABLE if key.startswith("train.")):
        node = train
        for part in key.split(".")[1:]:
            assert part in node, key
            node = node[part]
        assert TABLE[key].holds(node), key
    assert expected_of("model.student.transformer.num_layers").holds(3)
    assert not expected_of("train.model_ema.decay").holds(math.nan)
