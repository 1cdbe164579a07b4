"""Costs as table and JSON."""

from projects.clockdistill.analysis.costs import Costs, costs_table
from projects.clockdistill.analysis.flops import Flops


def costs(name: str) -> Costs:
    return Costs(
        name=name,
        parameters=30_985_229,
        flops=Flops({"backbone": 20_000_000_000, "rest": 400_000_000}, {"aten::mul": 3}),
        activation_bytes=1_500_000,
        seconds=(0.04, 0.02, 0.03),
        warmup=1,
        device="cpu",
    )


def test_json_is_in_base_units():
    content = costs("student").as_json()
    assert content.pop("threads") >= 1
    assert content == {
        "name": "student",
        "parameters": 30_985_229,
        "flops": 20_400_000_000,
        "flops_by_part": {"backbone": 20_000_000_000, "rest": 400_000_000},
        "uncounted_operations": {"aten::mul": 3},
        "activation_bytes": 1_500_000,
        "latency_s": {
            "median": 0.03,
            "lower_quartile": 0.025,
            "upper_quartile": 0.035,
            "warmup": 1,
            "repeats": 3,
        },
        "fps": 1 / 0.03,
        "device": "cpu",
    }


def test_models_are_columns():
    lines = costs_table([costs("student"), costs("teacher")]).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["", "student", "teacher"]
    assert {title: first for title, first, second in cells[2:] if first == second} == {
        "parameters": "30.99 M",
        "FLOPs (multiply-adds)": "20.40 G",
        "- backbone": "20.00 G",
        "- rest": "0.40 G",
        "activations, peak": "1.5 MB",
        "latency, median": "30.0 ms",
        "latency, quartiles": "25.0 to 35.0 ms",
        "images per second": "33.33",
    }
