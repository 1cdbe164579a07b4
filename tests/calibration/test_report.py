"""The table's cells and the JSON's keys."""

import json

from projects.clockdistill.calibration.report import as_json, table
from projects.clockdistill.calibration.scales import LossScale, Spread
from tests.calibration.tiny_distiller import tiny_distiller

SCALES = [
    LossScale("detection", Spread(20, 30, 40), 1.0, Spread(2, 3, 4), Spread(5, 6, 7), 1.0),
    LossScale("loss_distill_fitnet", Spread(1e-4, 2e-4, 3e-4), 0.005, None, Spread(1, 2, 3), 1 / 3),
]


def test_table():
    header, _, detection, fitnet = (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in table(SCALES).splitlines()
    )
    assert header[0] == "loss" and header[3:] == [
        "gradient at memory",
        "gradient at neck",
        "of detection",
    ]
    assert detection == [
        "detection",
        "30 (20 to 40)",
        "100.00%",
        "3 (2 to 4)",
        "6 (5 to 7)",
        "100.00%",
    ]
    assert fitnet == [
        "loss_distill_fitnet",
        "0.0002 (0.0001 to 0.0003)",
        "0.50%",
        "-",
        "2 (1 to 3)",
        "33.33%",
    ]


def test_json():
    model = tiny_distiller(features=("fitnet",))
    detection, fitnet = json.loads(
        json.dumps(as_json(model, SCALES, {"loss_distill_fitnet": "too small"}))
    )
    assert detection == {
        "name": "detection",
        "value": {"lower_quartile": 20, "median": 30, "upper_quartile": 40},
        "relative": 1.0,
        "at_memory": {"lower_quartile": 2, "median": 3, "upper_quartile": 4},
        "at_neck": {"lower_quartile": 5, "median": 6, "upper_quartile": 7},
        "relative_at_neck": 1.0,
        "weights": {},
        "warning": None,
    }
    assert fitnet["at_memory"] is None and fitnet["warning"] == "too small"
    assert fitnet["weights"] == {"model.feature_losses.fitnet.weight": 1.0}
