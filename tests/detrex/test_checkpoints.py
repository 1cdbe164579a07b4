"""Checkpoint files go both ways: detrex's load here, a student saved here loads there."""

import pytest
import torch
from detrex.checkpoint import DetectionCheckpointer

from benchmarks.opponents.detrex import built
from projects.clockdistill.engine.checkpoint import DetectorCheckpointer
from projects.clockdistill.engine.teacher import load_teacher
from tests.detrex.pairs import FAMILIES, detrex_config, distiller, our_config, randomise

pytestmark = pytest.mark.detrex


@pytest.fixture(scope="module", params=FAMILIES)
def family(request) -> str:
    return request.param


def test_a_file_that_detrex_wrote_loads_into_a_teacher_here(family, tmp_path):
    theirs = built(detrex_config(family))
    randomise(theirs, seed=1)
    DetectionCheckpointer(theirs, str(tmp_path)).save("model_final", iteration=7)
    path = str(tmp_path / "model_final.pth")
    for config in (our_config, detrex_config):
        teacher = built(config(family))
        load_teacher(teacher, path)
        torch.testing.assert_close(teacher.state_dict(), theirs.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("config", [our_config, detrex_config])
def test_a_student_saved_here_loads_there(family, config, tmp_path):
    model = distiller(config, family)
    randomise(model.student, seed=1)
    DetectorCheckpointer(model, str(tmp_path)).save("model_final")
    path = tmp_path / "model_final.pth"
    theirs = built(detrex_config(family))
    theirs.load_state_dict(torch.load(path, weights_only=True)["model"], strict=True)
    expected = model.student.state_dict()
    torch.testing.assert_close(theirs.state_dict(), expected, rtol=0, atol=0)
    again = built(detrex_config(family))
    DetectionCheckpointer(again).load(str(path))
    torch.testing.assert_close(again.state_dict(), expected, rtol=0, atol=0)
