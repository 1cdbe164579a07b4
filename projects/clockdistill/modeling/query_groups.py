"""The queries that teacher and student both decode, so that their predictions can be compared.

Letters: B images, N objects (at most, in one image), Q queries, D channels.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.step_random import StepRandom
from projects.clockdistill.modeling.structures import QueryGroup


class TargetAwareQueries(nn.Module):
    """Ground-truth boxes and labels as queries that are never trained.

    Source: CLoCKDistill (arXiv:2502.10683), eq. (6)-(8): the content is the sum of a label
    embedding and an MLP of the box, the latter is the position query where a decoder wants one,
    and the anchor is the ground-truth box itself. The paper says that these queries are
    unlearnable and the same for both models; so embedding and MLP are drawn once from a seed of
    their own, frozen, and saved with the run.

    Exact copies that do not see each other give equal predictions, so they are decoded once and
    counted `copies` times. With jitter they differ and are decoded as groups of their own.

    Args:
        num_classes: K.
        embed_dim: D of the decoders.
        copies: how many copies the loss counts (paper, sec. 4.2: 3).
        box_jitter: largest shift of a copy's edges, as a fraction of half the box's size; 0 =
            exact copies, as in the paper.
        seed: of the frozen embedding and MLP, and of the jitter.
    """

    def __init__(
        self,
        num_classes: int,
        embed_dim: int,
        copies: int = 3,
        box_jitter: float = 0.0,
        seed: int = 0,
    ):
        super().__init__()
        if copies < 1:
            raise ValueError(f"copies={copies}: at least one copy, or switch the queries off")
        if box_jitter < 0:
            raise ValueError(f"box_jitter={box_jitter} must not be negative")
        with torch.random.fork_rng(devices=[]):  # the student's initial weights stay as they were
            torch.manual_seed(seed)
            self.label_embedding = nn.Embedding(num_classes, embed_dim)
            self.box_mlp = nn.Sequential(
                nn.Linear(4, embed_dim), nn.ReLU(), nn.Linear(embed_dim, embed_dim)
            )
        self.requires_grad_(False)
        self.copies = copies
        self.box_jitter = box_jitter
        self.draws = StepRandom(seed)

    def forward(self, targets: Sequence[dict[str, Tensor]]) -> tuple[QueryGroup, ...]:
        """
        Args:
            targets: per image "labels" (N,) int64 and "boxes" (N, 4) cxcywh in [0, 1].

        Returns:
            One group that counts `copies` times, or `copies` jittered groups; padded to the
            largest N of the batch and at least one query, so that a batch (or a distributed
            rank) without objects runs the same graph.
        """
        most = max([1, *(len(target["labels"]) for target in targets)])
        device = self.label_embedding.weight.device
        labels = torch.zeros(len(targets), most, dtype=torch.int64, device=device)
        boxes = torch.full((len(targets), most, 4), 0.5, device=device)
        valid = torch.zeros(len(targets), most, dtype=torch.bool, device=device)
        for image, target in enumerate(targets):
            count = len(target["labels"])
            labels[image, :count] = target["labels"]
            boxes[image, :count] = target["boxes"]
            valid[image, :count] = True
        if self.box_jitter == 0:
            return (self._group("target_aware", labels, boxes, valid, self.copies),)
        return tuple(
            self._group(f"target_aware_{copy}", labels, self._jitter(boxes), valid, copies=1)
            for copy in range(self.copies)
        )

    def _group(
        self, name: str, labels: Tensor, boxes: Tensor, valid: Tensor, copies: int
    ) -> QueryGroup:
        position = self.box_mlp(boxes)  # eq. (7)
        content = self.label_embedding(labels) + position  # eq. (8)
        return QueryGroup(name, content, boxes, position, valid, copies)

    def _jitter(self, boxes: Tensor) -> Tensor:
        """Moves each edge by at most `box_jitter` half sizes, inside the image."""
        centre, half = boxes[..., :2], boxes[..., 2:] / 2
        shift = (self.draws.uniform((2, *centre.shape)).to(boxes) * 2 - 1) * self.box_jitter
        low = (centre - half + shift[0] * half).clamp(0, 1)
        high = (centre + half + shift[1] * half).clamp(0, 1)
        low, high = torch.minimum(low, high), torch.maximum(low, high)
        return torch.cat([(low + high) / 2, high - low], dim=-1)


class GeneralQueries(nn.Module):
    """Random anchors with empty content, drawn afresh each step, shared by teacher and student.

    Source: KD-DETR (arXiv:2211.08071), general sampling. Anchors are the sigmoid of standard
    normal draws, as in its public code; every image of a batch gets the same ones. Position queries
    are standard normal, as Deformable-DETR's learnt ones start.

    Args:
        num_points: Q (CLoCKDistill, sec. 4.2: 900 for DINO, 300 for DAB- and Deformable-DETR).
        embed_dim: D of the decoders.
        position_queries: draw position queries too; for decoders that do not make them from
            anchors.
        seed: of the draws, which leave torch's global generator alone.
    """

    def __init__(
        self, num_points: int, embed_dim: int, position_queries: bool = False, seed: int = 0
    ):
        super().__init__()
        if num_points < 1:
            raise ValueError(f"num_points={num_points}: at least one, or switch the queries off")
        self.num_points = num_points
        self.embed_dim = embed_dim
        self.position_queries = position_queries
        self.draws = StepRandom(seed)

    def forward(self, targets: Sequence[dict[str, Tensor]]) -> tuple[QueryGroup, ...]:
        """
        Args:
            targets: as for `TargetAwareQueries`; only their number is read.

        Returns:
            One group of `num_points` queries.
        """
        batch, device = len(targets), self.draws.steps.device
        anchors = self.draws.normal((self.num_points, 4)).sigmoid().to(device)
        content = anchors.new_zeros(batch, self.num_points, self.embed_dim)
        position = None
        if self.position_queries:
            position = self.draws.normal((self.num_points, self.embed_dim)).to(device)
            position = position.expand(batch, -1, -1)
        return (QueryGroup("general", content, anchors.expand(batch, -1, -1), position),)


class SpecificQueries(nn.Module):
    """The teacher's own queries, put to the student as well.

    Source: KD-DETR (arXiv:2211.08071), specific sampling.

    Args:
        num_points: at most so many of the teacher's queries, its best proposals first.
    """

    def __init__(self, num_points: int):
        super().__init__()
        if num_points < 1:
            raise ValueError(f"num_points={num_points}: at least one, or switch the queries off")
        self.num_points = num_points

    def forward(self, own_queries: QueryGroup) -> QueryGroup:
        """
        Args:
            own_queries: the teacher's queries as they entered its decoder.

        Returns:
            The first `num_points` of them, without gradient.
        """
        kept = slice(0, self.num_points)
        position = own_queries.position
        return QueryGroup(
            "specific",
            own_queries.content[:, kept].detach(),
            own_queries.reference_points[:, kept].detach(),
            None if position is None else position[:, kept].detach(),
        )


class QueryGroups(nn.Module):
    """All kinds of distillation queries of an experiment; a kind that is None is switched off.

    They are made at the teacher's width. Where the student's differs, a linear layer takes
    contents and position queries to it; it trains with the student and is no part of it. Anchors
    are the same for both.

    Args:
        teacher_dim: D of the teacher.
        student_dim: D of the student.
        target_aware: queries from ground truth.
        general: random queries.
        specific: the teacher's own queries.
    """

    def __init__(
        self,
        teacher_dim: int,
        student_dim: int,
        target_aware: TargetAwareQueries | None = None,
        general: GeneralQueries | None = None,
        specific: SpecificQueries | None = None,
    ):
        super().__init__()
        self.teacher_dim = teacher_dim
        self.student_dim = student_dim
        same = teacher_dim == student_dim
        self.adaptation = nn.Identity() if same else nn.Linear(teacher_dim, student_dim)
        self.target_aware = target_aware
        self.general = general
        self.specific = specific

    @property
    def kinds(self) -> list[nn.Module]:
        """What is switched on."""
        kinds = (self.target_aware, self.general, self.specific)
        return [kind for kind in kinds if kind is not None]

    def forward(self, targets: Sequence[dict[str, Tensor]]) -> tuple[QueryGroup, ...]:
        """The groups that both decoders receive appended: target-aware, then general."""
        kinds = [kind for kind in (self.target_aware, self.general) if kind is not None]
        return tuple(group for kind in kinds for group in kind(targets))

    def for_student(self, groups: Sequence[QueryGroup]) -> tuple[QueryGroup, ...]:
        """The same groups at the student's width."""
        return tuple(
            replace(
                group,
                content=self.adaptation(group.content),
                position=None if group.position is None else self.adaptation(group.position),
            )
            for group in groups
        )
