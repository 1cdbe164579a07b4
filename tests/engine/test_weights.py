"""Tests torchvision's weights in detectron2's ResNet."""

from pathlib import Path

import pytest
import torch
import torchvision
from detectron2.modeling.backbone import ResNet
from detectron2.modeling.backbone.resnet import BasicStem
from torch import nn

from projects.clockdistill.engine.checkpoint import DetectorCheckpointer
from projects.clockdistill.engine.weights import CheckpointError, local_path


class _WithBackbone(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        self.backbone = ResNet(
            stem=BasicStem(3, 64, norm="FrozenBN"),
            stages=ResNet.make_default_stages(depth, norm="FrozenBN"),
            out_features=["res2", "res3", "res4", "res5"],
        )
        self.head = nn.Linear(2, 2)


def _torchvision_resnet(depth: int) -> nn.Module:
    model = getattr(torchvision.models, f"resnet{depth}")(weights=None).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # otherwise a mix-up of the four would go unnoticed
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.uniform_(module.bias, -0.2, 0.2)
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.8, 1.2)
    return model


@pytest.mark.parametrize("depth", [18, 50])  # basic blocks and bottlenecks
def test_converted_weights_give_torchvisions_features(depth: int, tmp_path: Path) -> None:
    theirs = _torchvision_resnet(depth)
    torch.save(theirs.state_dict(), tmp_path / "resnet.pth")
    model = _WithBackbone(depth).eval()
    head = model.head.weight.clone()
    DetectorCheckpointer(model).load_initial(str(tmp_path / "resnet.pth"))

    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        features = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(image))))
        ours = model.backbone(image)
        for stage in (1, 2, 3, 4):
            features = getattr(theirs, f"layer{stage}")(features)
            scale = features.abs().max()
            difference = (ours[f"res{stage + 1}"] - features).abs().max() / scale
            assert difference < 1e-5, f"res{stage + 1}"
    assert torch.equal(model.head.weight, head)


def test_backbone_of_another_depth_is_refused(tmp_path: Path) -> None:
    torch.save(_torchvision_resnet(50).state_dict(), tmp_path / "resnet50.pth")
    with pytest.raises(
        CheckpointError, match=r"backbone\.res2\.0\.conv1\.weight.*\(64, 64, 1, 1\)"
    ):
        DetectorCheckpointer(_WithBackbone(18)).load_initial(str(tmp_path / "resnet50.pth"))


def test_without_a_network_the_message_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*args, **kwargs) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(CheckpointError) as caught:
        DetectorCheckpointer(_WithBackbone(18)).load_initial("torchvision://resnet18")
    message = str(caught.value)
    assert "https://download.pytorch.org/models/resnet18-" in message
    assert str(tmp_path / "checkpoints" / "resnet18-") in message
    assert "train.init_checkpoint=PATH" in message
    assert 'train.init_checkpoint=""' in message


def test_file_that_is_already_there_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    url = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url
    path = tmp_path / "checkpoints" / url.rpartition("/")[2]
    path.parent.mkdir()
    theirs = _torchvision_resnet(18)
    torch.save(theirs.state_dict(), path)
    model = _WithBackbone(18)
    DetectorCheckpointer(model).load_initial("torchvision://resnet18")
    assert torch.equal(model.backbone.stem.conv1.weight, theirs.conv1.weight)


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(CheckpointError, match=r"key=.*resnet34 is unknown\. Fix: .*//resnet50"):
        local_path("torchvision://resnet34", "key")
