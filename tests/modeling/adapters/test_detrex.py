"""What real detrex's detectors do otherwise, on stand-ins: nothing here needs detrex."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from detectron2.structures import Boxes, Instances
from torch import nn

from projects.clockdistill.modeling.adapters import (
    DetrexDABDETRAdapter,
    DetrexDeformableDETRAdapter,
    DetrexDINOAdapter,
)


class StandIn(nn.Module):
    """What the adapter reads or changes of a detrex detector."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
        self.device = "cpu"
        self.dn_number = 100

    def prepare_targets(self, instances):
        return [{"labels": entry.gt_classes, "boxes": entry.gt_boxes.tensor} for entry in instances]


@pytest.fixture(params=[DetrexDINOAdapter, DetrexDABDETRAdapter, DetrexDeformableDETRAdapter])
def adapter(request):
    return request.param()


def modes(detector):
    return [module.training for module in detector.modules()]


def test_in_eval_mode_the_detector_alone_takes_itself_to_train(adapter):
    detector = StandIn().eval()
    with adapter.running(detector):
        assert modes(detector) == [True, False, False, False]
        assert detector.dn_number == 0
    assert modes(detector) == [False] * 4
    assert detector.dn_number == 100


def test_an_early_end_of_the_pass_restores_it(adapter):
    detector = StandIn().eval()
    with pytest.raises(KeyError), adapter.running(detector):
        raise KeyError
    assert modes(detector) == [False] * 4
    assert detector.dn_number == 100


def test_in_train_mode_the_detector_stays_as_it_is(adapter):
    detector = StandIn().train()
    with adapter.running(detector):
        assert all(modes(detector))
        assert detector.dn_number == 100


def test_while_dino_trains_what_goes_to_cuda_comes_to_the_detector():
    adapter = DetrexDINOAdapter()
    tensor = torch.ones(2, dtype=torch.int64)
    with adapter.running(StandIn().train()):
        moved = [
            tensor.cuda(),
            tensor.to("cuda"),
            tensor.to("cuda:0"),
            tensor.to(device="cuda"),
            tensor.to(torch.device("cuda"), torch.int64),
        ]
        assert all(torch.equal(value, tensor) for value in moved)
        assert tensor.to("cuda", torch.float64).dtype == torch.float64
        assert tensor.to(torch.float64).dtype == torch.float64
        assert tensor.to("meta").device.type == "meta"
        detector = StandIn().train().to("meta")
        with adapter.running(detector):
            assert tensor.cuda().device.type == "meta"


def test_on_cuda_nothing_is_changed():
    detector = StandIn().train()
    detector.parameters = lambda: iter([SimpleNamespace(device=torch.device("cuda:1"))])
    assert isinstance(DetrexDINOAdapter().running(detector), nullcontext)


def test_gradients_pass_through_a_move():
    adapter = DetrexDINOAdapter()
    detector = StandIn().train()
    with adapter.running(detector):
        loss = detector.layer(torch.ones(1, 2)).cuda().sum()
    loss.backward()
    assert detector.layer[0].weight.grad is not None


def test_targets_are_the_annotations_alone(adapter):
    instances = Instances((10, 20), gt_boxes=Boxes(torch.ones(1, 4)), gt_classes=torch.ones(1))
    targets = adapter.targets(StandIn(), [{"instances": instances}])
    assert [set(target) for target in targets] == [{"labels", "boxes"}]


def test_an_image_without_annotations_is_named(adapter):
    with pytest.raises(ValueError, match=r"a\.png: training needs \"instances\""):
        adapter.targets(StandIn(), [{"file_name": "a.png"}])
