"""All losses on the neck's features; they are called alike and can be combined."""

from collections.abc import Sequence

from torch import Tensor, nn

from projects.clockdistill.modeling.losses.fgd import FGDLoss
from projects.clockdistill.modeling.losses.fitnet import FitNetLoss
from projects.clockdistill.modeling.losses.mgd import MGDLoss


class FeatureLosses(nn.Module):
    """The feature losses of an experiment; one that is None is switched off.

    Args:
        fitnet: plain imitation.
        fgd: focal and global distillation.
        mgd: masked generation.
    """

    def __init__(
        self,
        fitnet: FitNetLoss | None = None,
        fgd: FGDLoss | None = None,
        mgd: MGDLoss | None = None,
    ):
        super().__init__()
        losses = {"fitnet": fitnet, "fgd": fgd, "mgd": mgd}
        self.losses = nn.ModuleDict({name: loss for name, loss in losses.items() if loss})

    def __bool__(self) -> bool:
        """Whether any is switched on."""
        return len(self.losses) > 0

    def forward(
        self,
        student: Sequence[Tensor],
        teacher: Sequence[Tensor],
        masks: Sequence[Tensor],
        targets: Sequence[dict[str, Tensor]],
    ) -> dict[str, Tensor]:
        """
        Args:
            student: per level (B, D of the student, H, W).
            teacher: per level (B, D of the teacher, H, W); receives no gradient.
            masks: per level (B, H, W) bool, True = padding.
            targets: per image "labels" (N,) and "boxes" (N, 4) cxcywh in [0, 1].

        Returns:
            Weighted scalars by name.
        """
        return {name: loss(student, teacher, masks, targets) for name, loss in self.losses.items()}
