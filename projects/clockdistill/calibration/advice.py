"""Which distillation losses are out of scale, and the weights that would change it."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from projects.clockdistill.calibration.measure import PREFIX
from projects.clockdistill.calibration.scales import LossScale

# Of the detection loss: below the first a distillation loss hardly teaches, above the second it
# drowns the labels. What lies outside is advised to be a tenth of it, or as large as it.
LOWEST, HIGHEST = 0.01, 10.0
AIM_FROM_BELOW, AIM_FROM_ABOVE = 0.1, 1.0


class Weights(NamedTuple):
    """The config keys that a loss is proportional to, all together.

    Attributes:
        part: config key of the part, below `model`.
        names: of the keys there.
    """

    part: str
    names: tuple[str, ...]

    def values(self, model: nn.Module) -> dict[str, float]:
        """Full config key -> what the model was built with."""
        # a config names the feature losses one level higher than the module that holds them
        module = model.get_submodule(self.part.replace("feature_losses.", "feature_losses.losses."))
        return {f"model.{self.part}.{name}": getattr(module, name) for name in self.names}


WEIGHTS = {
    "memory": Weights("token_weights", ("alpha", "beta")),
    "class": Weights("logit_loss", ("cls_weight",)),
    "bbox": Weights("logit_loss", ("l1_weight",)),
    "giou": Weights("logit_loss", ("giou_weight",)),
    "fitnet": Weights("feature_losses.fitnet", ("weight",)),
    "fgd": Weights(
        "feature_losses.fgd",
        ("foreground_weight", "background_weight", "attention_weight", "global_weight"),
    ),
    "mgd": Weights("feature_losses.mgd", ("weight",)),
}


def current_weights(model: nn.Module, scale: LossScale) -> dict[str, float]:
    """Config key -> value of all weights of a distillation loss; empty if none are known."""
    weights = WEIGHTS.get(scale.name.removeprefix(PREFIX))
    return weights.values(model) if weights else {}


def advise(model: nn.Module, scales: Sequence[LossScale]) -> dict[str, str]:
    """A warning, by the loss's name, for each distillation loss that is out of scale."""
    found = {}
    for scale in scales:
        if scale.is_distillation and not LOWEST <= scale.relative <= HIGHEST:
            found[scale.name] = _warning(scale, current_weights(model, scale))
    return found


def _warning(scale: LossScale, weights: dict[str, float]) -> str:
    if scale.relative == 0:
        off = [f"{key}={value:g}" for key, value in weights.items() if value == 0]
        if off and len(off) == len(weights):
            return f"{scale.name} is 0, switched off by {' and '.join(off)}"
        return f"{scale.name} is 0 on half of the batches or more, which no weight would change"
    if scale.relative < LOWEST:
        size, aim, becomes = f"{scale.relative:.2%} of", AIM_FROM_BELOW, f"{AIM_FROM_BELOW:.0%}"
    else:
        size, aim, becomes = f"{scale.relative:.1f} times", AIM_FROM_ABOVE, "as large"
    factor = aim / scale.relative
    changes = [
        f"{key}={value * factor:.2g} (now {value:g})" for key, value in weights.items() if value
    ]
    mend = " and ".join(changes) or f"a weight {factor:.2g} times what it is"
    return f"{scale.name} is {size} the detection loss: {mend} would make it {becomes}"
