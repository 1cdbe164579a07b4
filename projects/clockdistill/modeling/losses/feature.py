"""All losses on the neck's features; they are called alike and can be combined."""

from collections.abc import Sequence

from torch import Tensor, nn


class FeatureLosses(nn.Module):
    """The feature losses of an experiment.

    Args:
        losses: by name; one that is None is switched off. A loss is a module that maps
            (student, teacher, masks, targets), as in `forward`, to a weighted scalar and names in
            `weight_names` the arguments that it is proportional to.
    """

    def __init__(self, **losses: nn.Module | None):
        super().__init__()
        self.losses = nn.ModuleDict(
            {name: loss for name, loss in losses.items() if loss is not None}
        )

    def forward(
        self,
        student: Sequence[Tensor],
        teacher: Sequence[Tensor],
        masks: Sequence[Tensor],
        targets: Sequence[dict[str, Tensor]],
    ) -> dict[str, Tensor]:
        """Computes every loss.

        Args:
            student: per level (B, D of the student, H, W).
            teacher: per level (B, D of the teacher, H, W); receives no gradient.
            masks: per level (B, H, W) bool, True = padding.
            targets: per image "labels" (N,) and "boxes" (N, 4) cxcywh in [0, 1].

        Returns:
            Weighted scalars "loss_distill_<name>".
        """
        return {
            f"loss_distill_{name}": loss(student, teacher, masks, targets)
            for name, loss in self.losses.items()
        }
