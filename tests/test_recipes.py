"""The recipes of CONTRIBUTING.md, carried out; tests/tools/test_custom_data.py has the data.

The code of the first recipe is the page's own, so that the page cannot go out of date.
"""

import importlib.util
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from torch import Tensor, nn

from projects.clockdistill import configs
from projects.clockdistill.configs.models.distill import distill
from projects.clockdistill.engine.config_file import load_config
from projects.clockdistill.modeling.adapters.base import FamilyAdapter, append, isolating_masks
from projects.clockdistill.modeling.detectors.base import Detector
from projects.clockdistill.modeling.detectors.predictions import Predictions
from projects.clockdistill.modeling.hooks import DetectorHooks
from projects.clockdistill.modeling.query_groups import QueryGroup
from tests.modeling.tiny_detectors import assert_same_gradients, batch

PAGE = Path(__file__).parents[1] / "CONTRIBUTING.md"
CONFIGS = Path(next(iter(configs.__path__)))
HEADER = """import torch
import torch.nn.functional as F
from torch import nn

from projects.clockdistill.modeling.losses.layers.alignment import FeatureAlignment

"""


def code_blocks(recipe: str) -> list[str]:
    """The Python code of one recipe of the page, without its indentation."""
    section = PAGE.read_text().split(f"## Recipe: {recipe}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^( *)```python\n(.*?)^ *```", section, re.MULTILINE | re.DOTALL)
    return [re.sub(f"^{indent}", "", code, flags=re.MULTILINE) for indent, code in blocks]


def test_a_new_feature_loss(tmp_path, monkeypatch):
    loss, config = code_blocks("a new feature loss")
    (tmp_path / "cosine.py").write_text(HEADER + loss)
    name = "projects.clockdistill.modeling.losses.cosine"
    spec = importlib.util.spec_from_file_location(name, tmp_path / "cosine.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    shutil.copytree(CONFIGS, tmp_path / "configs")
    path = tmp_path / "configs/methods/cosine_dino_r18_kitti.py"
    path.write_text(config)

    cfg = load_config(str(path), ["train.device=cpu"])
    for detector in (cfg.model.student, cfg.model.teacher):
        detector.num_queries = 20
    model = instantiate(cfg.model).train()
    losses = model(batch())
    assert {key for key in losses if "distill" in key} == {"loss_distill_cosine"}
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert model.feature_losses.losses["cosine"].weight_names == ("weight",)


class ToyDecoder(nn.Module):
    """One layer of attention among the queries and one to the memory."""

    def __init__(self, dim: int):
        super().__init__()
        self.among = nn.MultiheadAttention(dim, 1, batch_first=True)
        self.across = nn.MultiheadAttention(dim, 1, batch_first=True)
        self.anchors = nn.Linear(4, dim)

    def forward(self, *, query, reference_points, memory, padding, attn_masks=None, **_) -> Tensor:
        mask = attn_masks[0] if attn_masks else None
        query = query + self.anchors(reference_points)
        query = query + self.among(query, query, query, attn_mask=mask, need_weights=False)[0]
        attended, _ = self.across(query, memory, memory, key_padding_mask=padding)
        return query + attended


class ToyTransformer(nn.Module):
    """Encoder and decoder of a detector that shares nothing with the project's own."""

    def __init__(self, dim: int):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(dim, dim), ToyDecoder(dim)

    def forward(self, features: Tensor, mask: Tensor, content: Tensor, anchors: Tensor) -> Tensor:
        memory = self.encoder(features.flatten(2).transpose(1, 2))
        images = len(features)
        return self.decoder(
            query=content.expand(images, -1, -1),
            reference_points=anchors.expand(images, -1, -1),
            memory=memory,
            padding=mask.flatten(1),
        )


class ToyDetector(Detector):
    """A detector of one level and one decoder layer, trained to predict the mean box."""

    def __init__(self, num_classes: int, embed_dim: int):
        super().__init__(num_classes, (0.0, 0.0, 0.0), (255.0, 255.0, 255.0), "RGB")
        self.embed_dim = embed_dim
        self.backbone = nn.Conv2d(3, embed_dim, kernel_size=16, stride=16)
        self.transformer = ToyTransformer(embed_dim)
        self.content = nn.Parameter(torch.randn(5, embed_dim))
        self.anchors = nn.Parameter(torch.rand(5, 4))
        self.classes, self.boxes = nn.Linear(embed_dim, num_classes), nn.Linear(embed_dim, 4)

    def forward(
        self, batched_inputs: list[dict[str, Any]], targets: list[dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor]:
        images, mask = self.preprocess_images(batched_inputs)
        features = self.backbone(images.tensor)
        mask = F.interpolate(mask[:, None].float(), features.shape[-2:])[:, 0].bool()
        states = self.transformer(features, mask, self.content, self.anchors)
        return {
            "loss_toy": self.classes(states).square().mean() + self.boxes(states).sigmoid().mean()
        }


class ToyAdapter(FamilyAdapter):
    """What the hooks must know of the toy: one level, one layer, dense attention masks."""

    num_points = 6

    def embed_dim(self, detector: nn.Module) -> int:
        return detector.embed_dim

    def num_levels(self, detector: nn.Module) -> int:
        return 1

    def read_features(self, args: tuple[Any, ...]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        return args[:1], args[1:2]

    def append_queries(
        self, kwargs: dict[str, Any], groups: Sequence[QueryGroup], num_kept: int
    ) -> dict[str, Any]:
        blocks = isolating_masks(kwargs, groups, num_kept)["attn_masks"][0]
        mask, padding = blocks.dense_mask(kwargs["query"].device), blocks.dense_padding()
        if padding is not None:
            mask = mask | padding[:, None]
        return kwargs | {
            "query": append(kwargs["query"], self.contents(groups), num_kept),
            "reference_points": append(
                kwargs["reference_points"],
                [group.reference_points for group in groups],
                num_kept,
            ),
            "attn_masks": [mask],
        }

    def select(self, output: Tensor, part: slice) -> Tensor:
        return output[:, part]

    def predict(
        self, detector: nn.Module, kwargs: dict[str, Any], output: Tensor, part: slice
    ) -> Predictions:
        states = self.select(output, part)[None]
        return Predictions(detector.classes(states), detector.boxes(states).sigmoid())


@pytest.fixture
def toy() -> nn.Module:
    detector = L(ToyDetector)(num_classes=3, embed_dim=8)
    teacher = L(ToyDetector)(num_classes=3, embed_dim=8)
    return instantiate(distill(detector, teacher, adapter=ToyAdapter)).train()


def test_a_new_detector_family_is_distilled(toy):
    losses = toy(batch())
    assert {key for key in losses if "distill" in key} == {
        f"loss_distill_{name}" for name in ("memory", "class", "bbox", "giou")
    }
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in toy.student.parameters())


def test_appended_queries_change_nothing_of_a_new_detector_family(toy):
    losses, gradients = [], []
    groups = toy.query_groups(toy.student.prepare_targets(batch()))
    for appended in ((), groups):
        toy.zero_grad()
        run = DetectorHooks(toy.student, ToyAdapter()).run(batch(), appended)
        run.output["loss_toy"].backward()
        losses.append(run.output)
        gradients.append({n: p.grad.clone() for n, p in toy.student.named_parameters()})
    torch.testing.assert_close(losses[1], losses[0])
    assert_same_gradients(gradients[1], gradients[0])


def test_no_group_of_a_new_detector_family_sees_another(toy):
    first, second = toy.query_groups(toy.student.prepare_targets(batch()))
    hooks = DetectorHooks(toy.student.eval(), ToyAdapter(), "decoder")
    together = hooks.run(batch(), (first, second)).predictions
    alone = [hooks.run(batch(), (group,)).predictions.logits for group in (first, second)]
    torch.testing.assert_close(together.logits, torch.cat(alone, dim=2))
