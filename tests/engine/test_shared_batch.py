"""Processes and chunks that share a batch take the step of one process with the whole batch."""

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parallel import DistributedDataParallel

from projects.clockdistill.engine.trainer import Trainer
from projects.clockdistill.modeling.losses import (
    FeatureLosses,
    FGDLoss,
    FitNetLoss,
    LogitDistillLoss,
    MemoryDistillLoss,
)
from projects.clockdistill.modeling.meta_arch import DistillMetaArch
from projects.clockdistill.modeling.pseudo_targets import UNLABELLED, PseudoTargets
from projects.clockdistill.modeling.query_groups import (
    GeneralQueries,
    QueryGroups,
    SpecificQueries,
    TargetAwareQueries,
)
from projects.clockdistill.modeling.step_random import StepRandom
from projects.clockdistill.modeling.token_weights import TokenWeights
from tests.modeling.tiny_detectors import (
    ADAPTERS,
    FAMILIES,
    NUM_CLASSES,
    assert_same_gradients,
    batch,
    tiny_detector,
)
from tests.two_processes import process_group, spawn

# The last two, which are without objects, are the second process's or the second chunk. All are of
# one size: the amount of padding changes numbers a little, by the architecture.
IMAGES = batch((2, 4, 0, 0), sizes=((48, 64),) * 4)


class SameDraws(StepRandom):
    """Draws the same for each process and chunk, as the images of one batch get the same."""

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(self.seed))


def detector(family: str = "dino") -> nn.Module:
    """A detector without what differs between processes and chunks by its nature.

    That is the noise of denoising, and the statistics of batch normalisation, which only the mini
    models train.
    """
    model = FrozenBatchNorm2d.convert_frozen_batchnorm(tiny_detector(family, seed=1))
    model.dn_number = 0
    return model


# The first process's have labels, the second's have not; objects there must not matter.
MIXED = [
    {**image, UNLABELLED: number >= 2}
    for number, image in enumerate(batch((2, 4, 3, 1), sizes=((48, 64),) * 4))
]


def distiller(normalised: str = "all") -> DistillMetaArch:
    """All kinds of queries, and every loss but MGD's, which masks cells at random."""
    student, teacher, adapter = detector(), tiny_detector("dino", seed=2), ADAPTERS["dino"]()
    width = student.embed_dim
    general = GeneralQueries(5, width)
    general.draws = SameDraws(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = (width, width, adapter.num_levels(student))
        feature_losses = FeatureLosses(fitnet=FitNetLoss(*sizes), fgd=FGDLoss(*sizes))
    return DistillMetaArch(
        student,
        teacher,
        adapter,
        adapter,
        QueryGroups(
            width, width, TargetAwareQueries(NUM_CLASSES, width), general, SpecificQueries(7)
        ),
        TokenWeights(alpha=1e-2, beta=1e-2),
        MemoryDistillLoss(width, width),
        LogitDistillLoss(normalised=normalised),
        feature_losses,
        pseudo_targets=PseudoTargets(threshold=0.05),
    )


class Step(NamedTuple):
    """What one step of the trainer logs, and the gradients that it applies."""

    losses: dict[str, float]
    gradients: dict[str, Tensor]


def step(model: nn.Module, images: list[dict] = IMAGES, chunks: int = 1, **options) -> Step:
    """Takes one step with a learning rate of 0."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.0)
    trainer = Trainer(model, lambda start: [images], optimizer, accumulate_steps=chunks, **options)
    trainer.train(0, 1)
    losses = {
        name: value for name, (value, _) in trainer.storage.latest().items() if "loss" in name
    }
    model = getattr(model, "module", model)
    return Step(losses, {n: p.grad for n, p in model.named_parameters() if p.grad is not None})


def assert_same(got: Step, expected: Step, relative: float = 1e-5) -> None:
    assert got.losses == pytest.approx(expected.losses, rel=1e-5, abs=1e-6)
    assert_same_gradients(got.gradients, expected.gradients, relative)


@pytest.mark.parametrize("family", FAMILIES)
def test_chunks_of_a_batch_give_its_gradients(family: str) -> None:
    # The fused kernel's gradients of a saturated attention, which this DAB-DETR's first one is,
    # are rounding: 1e-3 of the gradients behind them. Without it they are up to 3e-5 on some CPUs.
    relative = 1e-4 if family == "dab_detr" else 1e-5
    with sdpa_kernel(SDPBackend.MATH):
        assert_same(step(detector(family), chunks=4), step(detector(family)), relative)


@pytest.mark.parametrize("layers", ["same", "teacher_last"])
def test_chunks_of_a_batch_give_the_gradients_of_its_distillation(layers: str) -> None:
    whole, chunks = distiller(), distiller()
    whole.logit_loss.layers = chunks.logit_loss.layers = layers
    assert_same(step(chunks, chunks=2), step(whole))


@pytest.mark.parametrize("normalised", ["all", "none"])
def test_chunks_of_labelled_and_unlabelled_images_give_the_gradients_of_the_batch(
    normalised: str,
) -> None:
    whole = step(distiller(normalised), MIXED)
    assert {name for name in whole.losses if name.endswith("_unlabelled")} == {
        f"loss_distill_{name}_unlabelled"
        for name in ("memory", "class", "bbox", "giou", "fitnet", "fgd")
    }
    for chunks in (2, 4):
        assert_same(step(distiller(normalised), MIXED, chunks), whole)


def test_each_chunk_has_images_of_both_kinds() -> None:
    class Recorder(nn.Linear):
        def forward(self, images: list[dict]) -> dict[str, Tensor]:
            kinds.append([image[UNLABELLED] for image in images])
            return {"loss": self.weight.sum()}

    kinds: list[list[bool]] = []
    step(Recorder(1, 1, bias=False), MIXED, chunks=2)
    assert kinds == [[False, True], [False, True]]


@pytest.mark.parametrize("counts", [(0, 0, 0, 0), (1, 0, 0, 0)])
def test_chunks_without_objects_give_the_gradients_of_the_batch(counts: tuple[int, ...]) -> None:
    images = batch(counts, sizes=((48, 64),) * 4)
    assert_same(step(detector(), images, chunks=2), step(detector(), images))


def test_chunks_in_bfloat16_differ_by_its_rounding() -> None:
    exact = step(detector())
    whole = step(detector(), amp_dtype="bfloat16")
    chunks = step(detector(), chunks=2, amp_dtype="bfloat16")
    assert chunks.losses == pytest.approx(whole.losses, rel=2**-8)
    chunks, whole, exact = (
        torch.cat([gradient.flatten() for gradient in one.gradients.values()])
        for one in (chunks, whole, exact)
    )
    assert (chunks - whole).norm() < (whole - exact).norm() / 2


def half(images: list[dict], rank: int) -> list[dict]:
    """Returns the images of one of two processes."""
    size = len(images) // 2
    return images[rank * size : (rank + 1) * size]


def run_rank(rank: int, folder: str) -> None:
    """Takes the steps of one of two processes, with half of the images."""
    with process_group(rank, folder):
        views = {"gradient_as_bucket_view": True}
        steps = [
            step(DistributedDataParallel(make(), **options), half(images, rank), chunks)._asdict()
            for make, images, chunks, options in (
                (distiller, IMAGES, 1, {}),
                (distiller, IMAGES, 2, views),
                (detector, IMAGES, 2, {}),
                (distiller, MIXED, 1, {}),
                (distiller, MIXED[1:3], 1, {}),
            )
        ]
        torch.save(steps, Path(folder, f"rank{rank}.pth"))


def test_two_processes_take_the_step_of_one(tmp_path: Path) -> None:
    spawn(run_rank, tmp_path)
    for rank in range(2):
        steps = torch.load(tmp_path / f"rank{rank}.pth")
        distilled, distilled_in_chunks, in_chunks, mixed, one_of_each = steps
        assert_same(Step(**distilled), step(distiller()))
        assert_same(Step(**distilled_in_chunks), step(distiller()))
        assert_same(Step(**in_chunks), step(detector()))
        assert_same(Step(**mixed), step(distiller(), MIXED))
        assert_same(Step(**one_of_each), step(distiller(), MIXED[1:3]))
