"""The calls that the floor records and replays."""

from collections import Counter

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.pairs.floor import Call, ProductRecorder, name_of, record, replay


class Net(nn.Module):
    """A convolution, a linear layer, a batched product, fused attention, and other work."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.linear = nn.Linear(8, 8)

    def forward(self, batched_inputs: list[dict]) -> Tensor:
        image = batched_inputs[0]["image"][None].contiguous(memory_format=torch.channels_last)
        tokens = self.linear(self.conv(image).relu().flatten(2).transpose(1, 2))  # (1, 24, 8)
        tokens = tokens + (tokens @ tokens.transpose(1, 2)).softmax(-1) @ tokens
        heads = tokens.unflatten(-1, (2, 4)).transpose(1, 2)
        return F.scaled_dot_product_attention(heads, heads, heads).sort().values


def inputs() -> list[dict]:
    return [{"image": torch.randn(3, 4, 6)}]


def layouts(call: Call) -> list[tuple]:
    return [(x.shape, x.stride()) for x in call[1] if isinstance(x, Tensor)]


def test_only_products_convolutions_and_attention_are_recorded():
    names = Counter(name_of(operator) for operator, _, _ in record(Net(), inputs()))
    attention = [name for name in names if "scaled_dot_product" in name]
    assert len(attention) == 1 and names.pop(attention[0]) == 1
    assert names == {"convolution": 1, "addmm": 1, "bmm": 2}


def test_layouts_are_those_of_the_pass():
    convolution, *_, product, _ = record(Net(), inputs())
    image, weight, bias = layouts(convolution)
    assert image == ((1, 3, 4, 6), (72, 1, 18, 3))  # channels last
    assert (weight[0], bias[0]) == ((8, 3, 3, 3), (8,))
    assert convolution[1][3:5] == ([1, 1], [1, 1])  # stride and padding
    assert [size for size, _ in layouts(product)] == [(1, 24, 24), (1, 24, 8)]


def test_the_replay_makes_the_same_calls():
    calls = record(Net(), inputs())
    replay(calls)  # in inference mode, as it is timed

    with ProductRecorder() as seen:
        for operator, args, kwargs in calls:
            operator(*args, **kwargs)
    assert [operator for operator, _, _ in seen.calls] == [operator for operator, _, _ in calls]
    assert [layouts(call) for call in seen.calls] == [layouts(call) for call in calls]


def test_tensors_of_equal_layout_are_shared_but_not_within_a_call():
    first, second, third = torch.randn(3, 2, 2)
    with ProductRecorder() as recorder:
        torch.mm(first, second)
        torch.mm(third, first)
    assert [[x.data_ptr() for x in args] for _, args, _ in recorder.calls] == [
        [first.data_ptr(), second.data_ptr()]
    ] * 2
