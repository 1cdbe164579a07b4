"""The table of operators."""

import pytest
import torch

from benchmarks import profile


def rows_of(rows: int) -> list[list[str]]:
    """Cells of the table of a run with one product and two activations."""
    x = torch.randn(64, 64)
    events = profile.operators(lambda: (x @ x).relu().relu(), warmup=1, rounds=2)
    lines = profile.table(events, rounds=2, rows=rows).split("\n")[2:]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


def test_runs_are_averaged_and_sorted():
    rows = rows_of(100)
    calls = {name: int(count) for name, count, *_ in rows}
    assert (calls["aten::mm"], calls["aten::relu"], calls["0 others"]) == (1, 2, 0)
    shares = [float(row[3].rstrip("%")) for row in rows[:-1]]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=0.1 * len(shares))  # rounded


def test_operators_that_are_not_named_share_a_row():
    first, others, everything = rows_of(1)
    assert others[0].endswith(" others") and int(others[1]) > 0
    assert int(first[1]) + int(others[1]) == int(everything[1])
    assert everything[3] == "100.0%"


@pytest.mark.parametrize("step", ["train", "inference"])
def test_the_tool(step, capsys):
    size = ["--height", "64", "--width", "96", "--rounds", "1", "--rows", "300"]
    config = ["--config-file", "mini/dino_r18_synthkitti.py", "--step", step]
    profile.main([*config, *size])
    printed = capsys.readouterr().out
    assert "| aten::addmm" in printed and "commit" in printed
    assert ("Backward" in printed) == (step == "train")


def test_a_config_that_is_not_there():
    with pytest.raises(SystemExit, match=r"profile: .*nowhere\.py: there is no such file"):
        profile.main(["--config-file", "nowhere.py"])
