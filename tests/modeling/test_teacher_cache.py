"""Images that come again are not encoded again, and nobody can tell."""

import pytest
import torch

from projects.clockdistill.modeling.losses import FeatureLosses, FitNetLoss
from projects.clockdistill.modeling.structures import EncodedImages
from projects.clockdistill.modeling.teacher_cache import TeacherCache
from tests.modeling.test_meta_arch import distiller, step
from tests.modeling.tiny_detectors import FAMILIES, batch, tiny_detector

SIZE = (64, 96)
LARGE = 2**20


def images(seed: int = 0) -> list[dict]:
    return batch((2, 1), (SIZE, SIZE), seed)


def encoder_of(seen: list[int]):
    """Encodes an image as its mean, and notes how many it was given."""

    def encode(batched_inputs):
        seen.append(len(batched_inputs))
        pixels = torch.stack([entry["image"].float().mean() for entry in batched_inputs])
        return EncodedImages((pixels.view(-1, 1, 1, 1),), pixels.view(-1, 1, 1))

    return encode


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"logit_loss": None},
        {"memory_loss": None},
        {"memory_loss": None, "logit_loss": None},
    ],
    ids=["all", "memory", "logits", "features"],
)
def test_losses_are_those_of_a_teacher_that_is_asked_afresh(family, changes):
    width = tiny_detector(family).embed_dim
    levels = 1 if family == "dab_detr" else 3
    models = []
    for gib in (0, 0.1):
        torch.manual_seed(0)
        fitnet = FeatureLosses(fitnet=FitNetLoss(width, width, levels))
        models.append(distiller(family, feature_losses=fitnet, teacher_cache_gib=gib, **changes))
    plain, caching = models
    for _ in range(3):  # encoded first, then taken from the cache
        torch.testing.assert_close(step(caching, images()), step(plain, images()))
    assert len(caching.teacher_cache) == 2


def test_known_images_are_not_encoded_again():
    model = distiller(teacher_cache_gib=0.1)
    calls = []
    model.teacher.backbone.stem.register_forward_hook(
        lambda module, args, output: calls.append(len(args[0]))
    )
    first, second = images(0), images(1)
    step(model, first)
    step(model, first)
    assert calls == [2]
    step(model, [first[1], second[0]])
    assert calls == [2, 1]


def test_the_detector_is_left_as_it_was():
    model = distiller(teacher_cache_gib=0.1)
    expected = model.teacher(images())
    for _ in range(2):
        step(model, images())
    found = model.teacher(images())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one["instances"].scores, other["instances"].scores)
    assert not any("forward" in module.__dict__ for module in model.teacher.modules())


def test_it_is_no_part_of_a_checkpoint():
    model = distiller(teacher_cache_gib=0.1)
    before = model.state_dict().keys(), model.distill_modules.state_dict().keys()
    step(model, images())
    assert (model.state_dict().keys(), model.distill_modules.state_dict().keys()) == before


def test_a_flip_is_another_image():
    cache, seen = TeacherCache(LARGE), []
    entries = images()
    flipped = [{**entry, "image": entry["image"].flip(-1)} for entry in entries]
    for inputs in (entries, flipped, entries):
        cache.encoded(inputs, encoder_of(seen))
    assert seen == [2, 2]
    assert len(cache) == 4


def test_the_order_of_a_batch_is_kept_and_an_image_may_come_twice():
    cache, seen = TeacherCache(LARGE), []
    first, second = images()
    cache.encoded([second], encoder_of(seen))
    found = cache.encoded([first, second, first], encoder_of(seen))
    means = [entry["image"].float().mean() for entry in (first, second, first)]
    assert found.memory.flatten().tolist() == [mean.item() for mean in means]
    assert found.features[0].flatten().tolist() == [mean.item() for mean in means]
    assert seen == [1, 1]


def test_images_of_different_sizes_are_left_to_the_teacher():
    cache = TeacherCache(LARGE)
    assert cache.encoded(batch(), encoder_of([])) is None
    assert len(cache) == 0


def test_a_full_cache_keeps_what_it_has():
    cache, seen = TeacherCache(max_bytes=16), []  # two images of two numbers
    first, second = images(0), images(1)
    for inputs in (first, second, first, second):
        cache.encoded(inputs, encoder_of(seen))
    assert len(cache) == 2
    assert seen == [2, 2, 2]


def test_without_memory_there_is_no_cache():
    cache = TeacherCache(0)
    assert cache.encoded(images(), encoder_of([])) is None
    with pytest.raises(ValueError, match="cannot hold -1 bytes"):
        TeacherCache(-1)


def test_what_is_kept_does_not_hold_the_batch_that_it_came_in():
    cache = TeacherCache(LARGE)
    cache.encoded(images(), encoder_of([]))
    for kept in cache._kept.values():
        assert kept.memory.untyped_storage().nbytes() == kept.memory.nbytes
