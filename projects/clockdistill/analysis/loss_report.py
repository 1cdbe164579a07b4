"""The sizes of losses as a table and as JSON, and the weights that would bring them into range."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tabulate import tabulate
from torch import nn

from projects.clockdistill.analysis.loss_scales import (
    DETECTION,
    MEMORY,
    MEMORY_PARTS,
    PREFIX,
    SUFFIX,
    LossScale,
)
from projects.clockdistill.analysis.spread import Spread

# Relative to the gradient of the detection loss: below the first a distillation loss hardly changes
# the student, above the second it outweighs the labels. Advised is then a tenth of it, or as much.
LOWEST, HIGHEST = 0.01, 2.0
AIM_FROM_BELOW, AIM_FROM_ABOVE = 0.1, 1.0


@dataclass(frozen=True)
class Advice:
    """What is wrong with the size of a loss.

    Attributes:
        text: names the loss, what was found and, if weights help, their keys and values.
        weights: config key -> value that would bring the loss into range; empty if none does.
    """

    text: str
    weights: dict[str, float] = field(default_factory=dict)


def current_weights(model: nn.Module, loss: str) -> dict[str, float]:
    """Returns the config keys that a distillation loss is proportional to, and their values.

    Args:
        model: a distillation model, whose losses name their weights in `weight_names`.
        loss: "loss_distill_*"; any other has no weights.
    """
    name = loss.removeprefix(PREFIX).removesuffix(SUFFIX)
    logit_weights = {} if model.logit_loss is None else model.logit_loss.weight_names
    if loss == MEMORY:
        part, module, names = "token_weights", model.token_weights, MEMORY_PARTS.values()
    elif loss == MEMORY + SUFFIX:
        module, names = model.unlabelled_token_weights, MEMORY_PARTS.values()
        part = "token_weights" if module is model.token_weights else "unlabelled_token_weights"
    elif name in logit_weights:
        part, module, names = "logit_loss", model.logit_loss, (logit_weights[name],)
    elif name in model.feature_losses.losses:
        module = model.feature_losses.losses[name]
        part, names = f"feature_losses.{name}", module.weight_names
    else:
        return {}
    return {f"model.{part}.{weight}": getattr(module, weight) for weight in names}


def advise(model: nn.Module, scales: Sequence[LossScale]) -> dict[str, Advice]:
    """Returns advice, by name, for each distillation loss that is out of range.

    Losses are judged by their gradient at the neck, which all of them reach. One that is positive
    without a gradient, as those of untrained box heads are, is judged by its value. One of images
    without labels is judged only if it has weights of its own: the others decide about theirs.
    """
    weights = {scale.name: current_weights(model, scale.name) for scale in scales}
    labelled = {key for name in weights if not name.endswith(SUFFIX) for key in weights[name]}
    return {
        scale.name: _advice(scale, weights[scale.name])
        for scale in scales
        if scale.name not in (DETECTION, *MEMORY_PARTS)
        and not (scale.name.endswith(SUFFIX) and weights[scale.name].keys() <= labelled)
        and not LOWEST <= (scale.relative_at_neck or scale.relative) <= HIGHEST
    }


def _advice(scale: LossScale, weights: Mapping[str, float]) -> Advice:
    if scale.relative == 0:
        if weights and not any(weights.values()):
            off = " and ".join(f"{key}={value:g}" for key, value in weights.items())
            return Advice(f"{scale.name} is 0, switched off by {off}")
        return Advice(
            f"{scale.name} is 0 on half of the batches or more, which no weight would change"
        )
    relative = scale.relative_at_neck or scale.relative
    found = "gradient" if scale.relative_at_neck else "value"
    if relative < LOWEST:
        size, aim, becomes = f"{relative:.2%} of", AIM_FROM_BELOW, f"{AIM_FROM_BELOW:.0%}"
    else:
        size, aim, becomes = f"{relative:.1f} times", AIM_FROM_ABOVE, "as large"
    factor = aim / relative
    advised = {key: float(f"{value * factor:.2g}") for key, value in weights.items() if value}
    changes = [f"{key}={value:g} (now {weights[key]:g})" for key, value in advised.items()]
    fix = " and ".join(changes) or f"a weight {factor:.2g} times what it is"
    text = (
        f"the {found} of {scale.name} is {size} the detection loss's: {fix} would make it {becomes}"
    )
    return Advice(text, advised)


def scales_table(scales: Sequence[LossScale]) -> str:
    """Returns a Markdown table with one row per loss; "-" where a loss has no gradient."""
    rows = [
        [
            scale.name,
            _cell(scale.value),
            f"{scale.relative:.2%}",
            _cell(scale.at_memory),
            _cell(scale.at_neck),
            f"{scale.relative_at_neck:.2%}",
        ]
        for scale in scales
    ]
    headers = ["loss", "median (quartiles)", "of detection", "gradient at memory"]
    headers += ["gradient at neck", "of detection"]
    align = ("left", *["right"] * (len(headers) - 1))
    return tabulate(rows, headers, tablefmt="github", colalign=align, disable_numparse=True)


def _cell(spread: Spread | None) -> str:
    if spread is None:
        return "-"
    return f"{spread.median:.3g} ({spread.lower_quartile:.3g} to {spread.upper_quartile:.3g})"


def scales_as_json(
    model: nn.Module, scales: Sequence[LossScale], advice: Mapping[str, Advice]
) -> list[dict[str, Any]]:
    """Returns one entry per loss: figures, the weights they were measured with, the warning."""
    return [
        {
            **asdict(scale),
            "weights": current_weights(model, scale.name),
            "warning": advice[scale.name].text if scale.name in advice else None,
        }
        for scale in scales
    ]
