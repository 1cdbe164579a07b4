"""What the values of config keys must be: one table of types and ranges."""

import fnmatch
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from omegaconf import ListConfig

LARGEST_SEED = 4_000_000_000  # numpy takes seeds below 2^32; each process adds its number


@dataclass(frozen=True)
class Expected:
    """The values that a key may have.

    Attributes:
        words: for messages, "a whole number of at least 1".
        holds: whether a value is one of them.
        is_text: whether whatever is typed behind `key=` is text.
    """

    words: str
    holds: Callable[[Any], bool]
    is_text: bool = False


def is_whole(value: Any) -> bool:
    """Returns whether a value is a whole number; True and 1e4 are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Returns whether a value is a whole or a real number, also infinity, but not NaN."""
    return is_whole(value) or (isinstance(value, float) and not math.isnan(value))


def whole(low: int, high: int | None = None, more: str = "") -> Expected:
    """Expects a whole number from `low` to `high`; `more` explains a special value."""
    limits = f"of at least {low}" if high is None else f"of {low} to {high}"
    return Expected(
        f"a whole number {limits}{more}",
        lambda value: is_whole(value) and low <= value <= (math.inf if high is None else high),
    )


def number(words: str, holds: Callable[[float], bool]) -> Expected:
    """Expects a number; `words` says which: "a number of at least 0"."""
    return Expected(words, lambda value: is_number(value) and holds(value))


def either(first: Expected, value: Any, words: str) -> Expected:
    """Expects what `first` does, or one further value."""
    return Expected(f"{first.words}, or {words}", lambda v: v is value or first.holds(v))


def _one_or_more_texts(value: Any) -> bool:
    if isinstance(value, list | tuple | ListConfig):
        return len(value) > 0 and all(isinstance(one, str) for one in value)
    return isinstance(value, str)


def _loggers(value: Any) -> bool:
    names = [value] if isinstance(value, str) else value
    return isinstance(names, list | tuple | ListConfig) and {*names} <= {"wandb", "mlflow"}


def _three_numbers(value: Any) -> bool:
    is_list = isinstance(value, list | tuple | ListConfig)
    return is_list and len(value) == 3 and all(is_number(one) for one in value)


FLAG = Expected("True or False", lambda value: isinstance(value, bool))
TEXT = Expected("text", lambda value: isinstance(value, str), is_text=True)
TEXTS = Expected("a name or a list of names", _one_or_more_texts, is_text=True)
NAMES = Expected(
    "a name or a list of names", lambda v: v == [] or _one_or_more_texts(v), is_text=True
)
FOLDER = Expected("a folder", lambda v: isinstance(v, str) and v.strip() != "", is_text=True)
CHECKPOINT = Expected(
    'a path, an address or ""', lambda v: v is None or isinstance(v, str), is_text=True
)
POSITIVE = number("a finite number above 0", lambda v: 0 < v < math.inf)
NOT_NEGATIVE = number("a finite number of at least 0", lambda v: 0 <= v < math.inf)
SHARE = number("a number of 0 to 1", lambda v: 0 <= v <= 1)
CHANNELS = Expected("3 numbers, one per channel", _three_numbers)
DECAY = number("a number of at least 0 and below 1", lambda v: 0 <= v < 1)

# key, with * for any part of it -> its values; the first that fits applies
TABLE = {
    "train.output_dir": FOLDER,
    "train.init_checkpoint": CHECKPOINT,
    "train.max_iter": whole(1, 1_000_000_000),
    "train.seed": Expected(
        f"a whole number of at most {LARGEST_SEED}; below 0, every run differs",
        lambda value: is_whole(value) and value <= LARGEST_SEED,
    ),
    "train.device": TEXT,
    "train.accumulate_steps": whole(1, more="; 1 does not split the batch"),
    "train.amp.dtype": Expected(
        "bfloat16 or float16", lambda value: value in ("bfloat16", "float16"), is_text=True
    ),
    "train.clip_grad.params.max_norm": number(
        "a number of at least 0; 0 disables clipping", lambda v: v >= 0
    ),
    "train.clip_grad.params.norm_type": number("a number above 0", lambda v: v > 0),
    "train.checkpointer.period": whole(0, more="; 0 saves at the end only"),
    "train.checkpointer.max_to_keep": whole(1),
    "train.eval_period": whole(0, more="; 0 evaluates at the end only"),
    "train.early_stopping": whole(0, more="; 0 trains up to train.max_iter"),
    "train.log_period": whole(1),
    "train.loggers": Expected("[] or a list of wandb and mlflow", _loggers, is_text=True),
    "train.model_ema.decay": DECAY,
    "train.best_metric": Expected(
        "a task and a metric, such as bbox/AP",
        lambda value: isinstance(value, str) and "/" in value.strip("/"),
        is_text=True,
    ),
    "train.teacher_check_images": whole(0, more="; 0 disables the check"),
    "dataloader.*.total_batch_size": whole(1),
    "dataloader.*.batch_size": whole(1),
    "dataloader.*.num_workers": whole(0, more="; 0 reads in the process itself"),
    "dataloader.*.dataset.names": TEXTS,
    "dataloader.unlabelled.names": NAMES,
    "dataloader.unlabelled.ratio": SHARE,
    "dataloader.*.dataset.json_file": TEXTS,
    "dataloader.*.dataset.image_root": TEXTS,
    "optimizer.lr": POSITIVE,
    "optimizer.params.base_lr": POSITIVE,
    "optimizer.params.lr_factors.*": NOT_NEGATIVE,
    "optimizer.weight_decay": NOT_NEGATIVE,
    "optimizer.eps": POSITIVE,
    "optimizer.momentum": DECAY,
    "model.teacher_checkpoint": CHECKPOINT,
    "model.*backbone.*num_classes": either(whole(1), None, "null"),
    "model.*num_classes": whole(1),
    "model.*input_format": Expected("RGB or BGR", lambda v: v in ("RGB", "BGR"), is_text=True),
    "model.*num_queries": whole(1),
    "model.*num_points": whole(0),
    "model.*num_feature_levels": whole(1),
    "model.*num_layers": whole(1),
    "model.*num_heads": whole(1),
    "model.*embed_dim": whole(1),
    "model.*feedforward_dim": whole(1),
    "model.*dn_number": whole(0),
    "model.*select_box_nums_for_evaluation": whole(1),
    "model.*pixel_mean": CHANNELS,
    "model.*pixel_std": Expected(
        "3 numbers other than 0, one per channel", lambda v: CHANNELS.holds(v) and 0 not in v
    ),
    "model.*label_noise_ratio": SHARE,
    "model.*box_noise_scale": NOT_NEGATIVE,
    "model.*temperature": POSITIVE,
    "model.*_weight": NOT_NEGATIVE,
}


def expected_of(key: str) -> Expected | None:
    """Returns what the table says about a key; None if it says nothing."""
    for pattern, expected in TABLE.items():
        if fnmatch.fnmatchcase(key, pattern):
            return expected
    return None


def like(default: Any) -> Expected | None:
    """Returns the type of a default as an expectation; None for what is not a plain value."""
    if isinstance(default, bool):
        return FLAG
    if is_whole(default):
        return Expected("a whole number", is_whole)
    if isinstance(default, float):
        return number("a number", lambda value: True)
    return TEXT if isinstance(default, str) else None


def holds_text(key: str, present: Any) -> bool:
    """Returns whether what is typed behind `key=` is text, by the table or its present value."""
    expected = expected_of(key)
    return isinstance(present, str) if expected is None else expected.is_text


def is_plain(value: Any) -> bool:
    """Returns whether a value is no list, dict or object."""
    return value is None or isinstance(value, bool | int | float | str)
