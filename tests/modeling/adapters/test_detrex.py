"""Adapters of real detrex's detectors, on stand-ins: nothing here needs detrex."""

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

    def __init__(self, forward=lambda: None):
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
        self.device = "cpu"
        self.dn_number = 100
        self.during = forward

    def prepare_targets(self, instances):
        return [{"labels": entry.gt_classes, "boxes": entry.gt_boxes.tensor} for entry in instances]

    def forward(self, batched_inputs):
        self.seen = modes(self), self.dn_number
        self.images = batched_inputs
        return self.during()


@pytest.fixture(params=[DetrexDINOAdapter, DetrexDABDETRAdapter, DetrexDeformableDETRAdapter])
def adapter(request):
    return request.param()


def modes(detector):
    return [module.training for module in detector.modules()]


def test_in_eval_mode_the_detector_itself_runs_in_train_mode(adapter):
    detector = StandIn().eval()
    adapter.run(detector, [], None)
    assert detector.seen == ([True, False, False, False], 0)
    assert modes(detector) == [False] * 4
    assert detector.dn_number == 100


def test_a_pass_that_stops_early_restores_it(adapter):
    def stop():
        raise KeyError

    detector = StandIn(stop).eval()
    with pytest.raises(KeyError):
        adapter.run(detector, [], None)
    assert modes(detector) == [False] * 4
    assert detector.dn_number == 100


def test_each_image_is_detected_without_padding(adapter):
    detector = StandIn(lambda: [{"instances": len(detector.images)} for _ in detector.images])
    assert adapter.detect(detector.eval(), [{}, {}]) == [{"instances": 1}, {"instances": 1}]
    assert detector.seen == ([False] * 4, 100)


def test_in_train_mode_the_detector_stays_as_it_is(adapter):
    detector = StandIn().train()
    adapter.run(detector, [], None)
    assert detector.seen == ([True] * 4, 100)


def test_a_training_dino_keeps_moves_to_cuda_on_its_device():
    tensor = torch.ones(2, dtype=torch.int64)

    def moves():
        return [
            tensor.cuda(),
            tensor.to("cuda"),
            tensor.to("cuda:0"),
            tensor.to(device="cuda"),
            tensor.to(torch.device("cuda"), torch.int64),
            tensor.to("cuda", torch.float64),
            tensor.to(torch.float64),
            tensor.to("meta"),
        ]

    *same, double, cast, meta = DetrexDINOAdapter().run(StandIn(moves).train(), [], None)
    assert all(torch.equal(value, tensor) for value in same)
    assert double.dtype == cast.dtype == torch.float64
    assert meta.device.type == "meta"
    on_meta = DetrexDINOAdapter().run(StandIn(moves).train().to("meta"), [], None)
    assert on_meta[0].device.type == "meta"


def test_gradients_pass_through_a_move():
    detector = StandIn(lambda: detector.layer(torch.ones(1, 2)).cuda().sum()).train()
    DetrexDINOAdapter().run(detector, [], None).backward()
    assert detector.layer[0].weight.grad is not None


def test_targets_are_the_annotations_alone(adapter):
    instances = Instances((10, 20), gt_boxes=Boxes(torch.ones(1, 4)), gt_classes=torch.ones(1))
    targets = adapter.targets(StandIn(), [{"instances": instances}])
    assert [set(target) for target in targets] == [{"labels", "boxes"}]


def test_an_image_without_annotations_is_named(adapter):
    with pytest.raises(ValueError, match=r"a\.png: no \"instances\" found"):
        adapter.targets(StandIn(), [{"file_name": "a.png"}])
