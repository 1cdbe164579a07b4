"""Comparison of a file's weights with a model's, before any is loaded."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from projects.clockdistill.engine.checkpoint_names import BACKBONE

_SHOWN = 5  # lines of a warning
_IN_A_MESSAGE = 3  # entries of an error, which has three lines in all
# From what the rest depends on most to what is trained most easily.
_IMPORTANCE = (BACKBONE, "transformer.", "neck.", "input_proj.", "class_embed.", "bbox_embed.")
_COUNTER = "num_batches_tracked"  # of steps; torch sets it itself, and no result depends on it


class Misfit(ValueError):
    """Weights that cannot be used for what they are wanted for; the message says what is wrong."""


@dataclass(frozen=True)
class Fit:
    """What of a model a file fills.

    Attributes:
        filled: keys with the model's shape.
        missing: keys of the model that the file lacks.
        wrong_shape: key -> (shape in the file, shape in the model).
        unexpected: keys of the file that the model lacks.
    """

    filled: tuple[str, ...]
    missing: tuple[str, ...]
    wrong_shape: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    unexpected: tuple[str, ...]

    @classmethod
    def compare(cls, state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> "Fit":
        """Compares the keys and shapes of a file's weights with those of a model.

        A layer that fills in what a file lacks, as frozen normalisation does with its statistics,
        is not asked.
        """
        keys = [key for key in wanted if not key.endswith(_COUNTER)]
        keys.sort(key=_importance)
        present = [key for key in keys if key in state]
        wrong_shape = {
            key: (tuple(state[key].shape), tuple(wanted[key].shape))
            for key in present
            if state[key].shape != wanted[key].shape
        }
        return cls(
            filled=tuple(key for key in present if key not in wrong_shape),
            missing=tuple(key for key in keys if key not in state),
            wrong_shape=wrong_shape,
            unexpected=tuple(k for k in state if k not in wanted and not k.endswith(_COUNTER)),
        )

    @property
    def is_backbone(self) -> bool:
        """Whether the file holds nothing but a backbone."""
        parts = (*self.filled, *self.wrong_shape, *self.unexpected)
        return bool(parts) and all(key.startswith(BACKBONE) for key in parts)

    @property
    def misfits(self) -> list[str]:
        """Keys of the model that the file does not fill, most important first, with the reason."""
        lines = {
            key: f"{key}: {found} in the file, {wanted} in the model"
            for key, (found, wanted) in self.wrong_shape.items()
        }
        lines |= {key: f"{key}: not in the file" for key in self.missing}
        return [lines[key] for key in sorted(lines, key=_importance)]

    def require_start(self) -> None:
        """Checks that training can start from the file.

        Heads may be of other classes, layers may be new; a backbone must be filled completely,
        since its first layers are frozen and would stay random.

        Raises:
            Misfit: otherwise.
        """
        if not self.filled:
            raise Misfit(
                "none of its keys fits this model: it has "
                f"{_some(self.unexpected, self.wrong_shape)}, the model {_some(self.missing)}"
            )
        backbone = [line for line in self.misfits if line.startswith(BACKBONE)]
        if backbone:
            raise Misfit(f"it does not fit this backbone:\n{one_line(backbone)}")

    def require_exact(self, *, allow_unexpected: bool = True) -> None:
        """Checks that the file fills the whole model.

        Args:
            allow_unexpected: whether it may hold more than that.

        Raises:
            Misfit: otherwise.
        """
        if not self.filled:
            self.require_start()
        if self.misfits and self.is_backbone:
            raise Misfit("it holds only a backbone, expected a whole detector")
        if self.misfits:
            raise Misfit(f"it does not fit the model of this config:\n{one_line(self.misfits)}")
        if self.unexpected and not allow_unexpected:
            raise Misfit(
                f"it holds keys that the model does not have:\n{one_line(self.unexpected)}"
            )


def fill_shared(state: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Adds the other names of weights that the model has under several, such as its heads.

    A safetensors file cannot share a tensor, and its libraries write one name of each.
    """
    for group in _shared(wanted):
        present = [key for key in group if key in state]
        for key in group:
            if present and key not in state:
                state[key] = state[present[0]]


def unequal_shared(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Returns pairs of a file's weights that differ, but are one weight in the model."""
    found = []
    for group in _shared(wanted):
        first, *others = [key for key in group if key in state] or [""]
        found += [f"{first}, {key}" for key in others if not state[key].equal(state[first])]
    return found


def _shared(wanted: Mapping[str, Tensor]) -> list[list[str]]:
    """Returns the names of each weight of a model."""
    names = defaultdict(list)
    for key, value in wanted.items():
        if value.numel() and value.data_ptr():
            names[value.data_ptr(), value.shape].append(key)
    return list(names.values())


def not_finite(state: Mapping[str, Tensor], keys: Sequence[str]) -> list[str]:
    """Returns which of a file's weights are NaN or infinite, with how many values of each."""
    counts = {key: int((~state[key].isfinite()).sum()) for key in keys if key in state}
    return [f"{key}: {n} of {state[key].numel()}" for key, n in counts.items() if n]


def shortened(lines: Sequence[str]) -> str:
    """Returns at most five lines; what is missing of a part is counted if there is more."""
    if len(lines) > _SHOWN:
        lines = _by_part(lines)
    more = [f"and {len(lines) - _SHOWN + 1} more"] if len(lines) > _SHOWN else []
    return "\n".join(f"  {line}" for line in [*lines[: _SHOWN - len(more)], *more])


def one_line(lines: Sequence[str]) -> str:
    """Returns the first lines as one, for an error."""
    more = len(lines) - _IN_A_MESSAGE
    return f"  {'; '.join(lines[:_IN_A_MESSAGE])}" + (f"; and {more} more" if more > 0 else "")


def _by_part(lines: Sequence[str]) -> list[str]:
    """Joins the lines of one part of the model, such as transformer.decoder."""
    part = [".".join(line.partition(":")[0].split(".")[:2]) for line in lines]
    counts = Counter(part)
    first = dict(zip(reversed(part), reversed(lines), strict=True))
    return [
        first[name] if count == 1 else f"{name}: {count} keys, first {first[name]}"
        for name, count in counts.items()
    ]


def _importance(key: str) -> int:
    return next((n for n, part in enumerate(_IMPORTANCE) if key.startswith(part)), len(_IMPORTANCE))


def _some(*keys: Sequence[str] | Mapping) -> str:
    return ", ".join([key for group in keys for key in group][:3]) or "nothing"
