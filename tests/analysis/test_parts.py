"""The split of a count among nested modules."""

from torch import nn

from projects.clockdistill.analysis.parts import PartCounter


class Counting(nn.Module):
    """Adds to a list that is summed, then calls the modules that it holds."""

    def __init__(self, counted: list[int], amount: int, *inner: nn.Module):
        super().__init__()
        self.counted, self.amount, self.inner = counted, amount, nn.ModuleList(inner)

    def forward(self) -> None:
        self.counted.append(self.amount)
        for module in self.inner:
            module()


def test_parts_do_not_count_inner_parts():
    counted: list[int] = []
    matcher, encoder = Counting(counted, 3), Counting(counted, 10)
    criterion = Counting(counted, 2, matcher, matcher)
    detector = Counting(counted, 1, encoder, criterion)
    parts = PartCounter(lambda: sum(counted), "rest")
    for name, module in (("m", matcher), ("e", encoder), ("c", criterion)):
        parts.follow(name, module)
    detector()
    parts.update()
    assert parts.counts == {"m": 6, "e": 10, "c": 2, "rest": 1}
