"""Files written by detrex are exported through our config of the same detector."""

import pytest
from detrex.checkpoint import DetectionCheckpointer

from benchmarks.opponents.detrex import built
from projects.clockdistill.deployment.export import write_model
from projects.clockdistill.deployment.model_spec import ModelSpec
from projects.clockdistill.deployment.parity import LIMITS, measure
from projects.clockdistill.deployment.runtimes import ExportedDetector, GraphInfo, open_model
from projects.clockdistill.deployment.samples import noise_images
from projects.clockdistill.engine.checkpoint import DetectorCheckpointer
from tests.detrex.pairs import detrex_config, our_config, randomise

pytestmark = pytest.mark.detrex

HEIGHT, WIDTH = 64, 96


@pytest.mark.parametrize(
    ("family", "suffix"),
    [("dino", ".onnx"), ("dino", ".xml"), ("dab_detr", ".onnx"), ("deformable_detr", ".xml")],
)
def test_the_file_detects_what_detrex_does(family, suffix, tmp_path):
    theirs = built(detrex_config(family)).eval()
    randomise(theirs, seed=1)
    DetectionCheckpointer(theirs, str(tmp_path)).save("model_final")
    ours = built(our_config(family))
    DetectorCheckpointer(ours).load_exact(str(tmp_path / "model_final.pth"), "weights")
    spec = ModelSpec(
        class_names=tuple("abc"),
        category_ids=(1, 2, 3),
        short_edge=None,
        max_size=None,
        input_format="RGB",
        pixel_mean=tuple(ours.pixel_mean.flatten().tolist()),
        pixel_std=tuple(ours.pixel_std.flatten().tolist()),
    )
    info = GraphInfo(HEIGHT, WIDTH, 1, False, 12, "fp32", "nothing")
    path = tmp_path / f"detector{suffix}"
    write_model(ours, spec, info, path)
    # images that need no padding: detrex's DAB-DETR attends to it, and ours does not
    images = noise_images(4, HEIGHT, WIDTH)
    for image in images:
        image |= {"height": HEIGHT, "width": WIDTH}
    parity = measure(theirs, ExportedDetector(open_model(path)), images, LIMITS["fp32"])
    assert parity.holds(LIMITS["fp32"]) and parity.left_out == 0, parity
