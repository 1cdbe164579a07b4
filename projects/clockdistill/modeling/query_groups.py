"""The queries that teacher and student both decode, so that their predictions can be compared.

Letters: B images, N objects (at most, in one image), Q queries, D channels. Boxes are cxcywh in
[0, 1] of the unpadded image.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.transfers import to_device
from projects.clockdistill.modeling.step_random import StepRandom


@dataclass(frozen=True)
class QueryGroup:
    """Queries that enter a decoder together, see each other and see no other query.

    Attributes:
        content: (B, Q, D).
        reference_points: (B, Q, 4) anchors, or (B, Q, 2) centres of a decoder that knows no
            sizes; carry no gradient.
        position: (B, Q, D) position queries for decoders that do not derive them from anchors.
        valid: (B, Q) bool, False = filler that no query attends to and no loss counts;
            None = every query is valid.
        copies: how many isolated, equal copies of this group the loss counts.
        sums_position: whether decoders without position queries take content + position as content.
    """

    content: Tensor
    reference_points: Tensor
    position: Tensor | None = None
    valid: Tensor | None = None
    copies: int = 1
    sums_position: bool = False

    def __post_init__(self):
        assert self.content.shape[:2] == self.reference_points.shape[:2]
        assert self.reference_points.shape[-1] in (2, 4)
        assert self.position is None or self.position.shape == self.content.shape

    def __len__(self) -> int:
        return self.content.shape[1]

    @property
    def padding(self) -> Tensor | None:
        """Which queries no query attends to, (B, Q) bool; None if there are none.

        A group without any valid query in an image keeps its filler visible to itself, since a
        softmax over nothing is not finite; no loss counts what comes out of it.
        """
        if self.valid is None:
            return None
        return ~self.valid & self.valid.any(dim=1, keepdim=True)


class TargetAwareQueries(nn.Module):
    """Ground-truth boxes and labels as queries that are never trained.

    Source: CLoCKDistill (arXiv:2502.10683), eq. (6)-(8): the query is the sum of a content query,
    the label's embedding, and a position query, an MLP of the box; the anchor is the ground-truth
    box itself. A decoder that takes position queries gets the two apart, since its attention adds
    them up; any other gets the sum as its content. The paper says that these queries are
    unlearnable and the same for both models; so embedding and MLP are drawn once from a seed of
    their own, frozen, and saved with the run.

    Exact copies that do not see each other give equal predictions, so they are decoded once and
    counted `copies` times.

    Args:
        num_classes: K.
        embed_dim: D of the decoders.
        copies: how many copies the loss counts (paper, sec. 4.2: 3).
        seed: of the frozen embedding and MLP.
    """

    def __init__(self, num_classes: int, embed_dim: int, copies: int = 3, seed: int = 0):
        super().__init__()
        if copies < 1:
            raise ValueError(
                f"copies={copies}, but at least one copy is needed. Fix: a positive number, or "
                "model.query_groups.target_aware=null to switch these queries off"
            )
        with torch.random.fork_rng(devices=[]):  # the student's initial weights stay as they were
            torch.manual_seed(seed)
            self.label_embedding = nn.Embedding(num_classes, embed_dim)
            self.box_mlp = nn.Sequential(
                nn.Linear(4, embed_dim), nn.ReLU(), nn.Linear(embed_dim, embed_dim)
            )
        self.requires_grad_(False)
        self.copies = copies

    def forward(self, targets: Sequence[dict[str, Tensor]]) -> QueryGroup:
        """Makes the group of one batch.

        Args:
            targets: per image "labels" (N,) int64 and "boxes" (N, 4).

        Returns:
            Padded to the largest N of the batch and at least one query, so that a batch (or a
            distributed rank) without objects runs the same graph.
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
        return QueryGroup(
            content=self.label_embedding(labels),  # eq. (6)
            reference_points=boxes,
            position=self.box_mlp(boxes),  # eq. (7)
            valid=valid,
            copies=self.copies,
            sums_position=True,  # eq. (8)
        )


class GeneralQueries(nn.Module):
    """Random anchors with empty content, drawn at each step, shared by teacher and student.

    Source: KD-DETR (arXiv:2211.08071), general sampling. Anchors are the sigmoid of standard
    normal draws, as in its public code; every image of a batch gets the same ones. Position queries
    are standard normal, as Deformable-DETR's learned ones start.

    Args:
        num_points: Q (CLoCKDistill, sec. 4.2: 900 for DINO, 300 for DAB- and Deformable-DETR).
        embed_dim: D of the decoders.
        position_queries: draw position queries too; for decoders that do not derive them from
            anchors.
        seed: of the draws.
    """

    def __init__(
        self, num_points: int, embed_dim: int, position_queries: bool = False, seed: int = 0
    ):
        super().__init__()
        _check_num_points(num_points, "general")
        self.num_points = num_points
        self.embed_dim = embed_dim
        self.position_queries = position_queries
        self.draws = StepRandom(seed)

    def forward(self, targets: Sequence[dict[str, Tensor]]) -> QueryGroup:
        """Draws the group of one batch.

        Args:
            targets: as for `TargetAwareQueries`; only their number is read.
        """
        batch, device = len(targets), self.draws.steps.device
        anchors = to_device(self.draws.normal((self.num_points, 4)).sigmoid(), device)
        content = anchors.new_zeros(batch, self.num_points, self.embed_dim)
        position = None
        if self.position_queries:
            position = to_device(self.draws.normal((self.num_points, self.embed_dim)), device)
            position = position.expand(batch, -1, -1)
        return QueryGroup(content, anchors.expand(batch, -1, -1), position)


class SpecificQueries(nn.Module):
    """The teacher's detector queries, for the student to decode as well.

    Source: KD-DETR (arXiv:2211.08071), specific sampling.

    Args:
        num_points: at most so many of the teacher's queries, the first ones; a two-stage teacher
            sorts them by score.
    """

    def __init__(self, num_points: int):
        super().__init__()
        _check_num_points(num_points, "specific")
        self.num_points = num_points

    def forward(self, detector_queries: QueryGroup) -> QueryGroup:
        """Returns the first `num_points` of the teacher's detector queries, without gradient.

        Args:
            detector_queries: the teacher's queries as they entered its decoder.
        """
        kept = slice(0, self.num_points)
        position = detector_queries.position
        return QueryGroup(
            detector_queries.content[:, kept].detach(),
            detector_queries.reference_points[:, kept].detach(),
            None if position is None else position[:, kept].detach(),
        )


class QueryGroups(nn.Module):
    """All kinds of distillation queries of an experiment; a kind that is None is switched off.

    They are made at the teacher's width. Where the student's differs, a linear layer brings
    contents and position queries to it; it trains with the student and is no part of it. Anchors
    are the same for both.

    Args:
        teacher_dim: D of the teacher.
        student_dim: D of the student.
        target_aware: queries from ground truth.
        general: random queries.
        specific: the teacher's detector queries.
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
        """Returns the kinds that are switched on."""
        kinds = (self.target_aware, self.general, self.specific)
        return [kind for kind in kinds if kind is not None]

    def forward(self, targets: Sequence[dict[str, Tensor]]) -> tuple[QueryGroup, ...]:
        """Returns the groups that both decoders receive appended: target-aware, then general."""
        kinds = (self.target_aware, self.general)
        return tuple(kind(targets) for kind in kinds if kind is not None)

    def for_student(self, groups: Sequence[QueryGroup]) -> tuple[QueryGroup, ...]:
        """Returns the same groups at the student's width."""
        return tuple(
            replace(
                group,
                content=self.adaptation(group.content),
                position=None if group.position is None else self.adaptation(group.position),
            )
            for group in groups
        )


def _check_num_points(num_points: int, kind: str) -> None:
    if num_points < 1:
        raise ValueError(
            f"num_points={num_points}, but at least one query is needed. Fix: a positive number, "
            f"or model.query_groups.{kind}=null to switch these queries off"
        )
