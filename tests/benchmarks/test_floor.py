"""What the floor records and replays."""

from collections import Counter

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.floor import Layout, ProductRecorder, record, replay


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


def test_products_convolutions_and_attention_are_recorded_and_nothing_else():
    names = Counter(call.name for call in record(Net(), inputs()))
    attention = [name for name in names if "scaled_dot_product" in name]
    assert len(attention) == 1 and names.pop(attention[0]) == 1
    assert names == {"convolution": 1, "addmm": 1, "bmm": 2}


def test_layouts_are_those_of_the_pass():
    convolution, *_, product, _ = record(Net(), inputs())
    image, weight, bias, *options = convolution.args
    assert image.size == (1, 3, 4, 6) and image.stride == (72, 1, 18, 3)  # channels last
    assert (weight.size, bias.size) == ((8, 3, 3, 3), (8,))
    assert options[:2] == [[1, 1], [1, 1]]  # stride and padding
    assert [operand.size for operand in product.args] == [(1, 24, 24), (1, 24, 8)]


def test_the_replay_makes_the_same_calls_on_tensors_of_its_own():
    calls = record(Net(), inputs())
    run = replay(calls)
    run()  # outside of the recorder, as it is timed

    class Seen(ProductRecorder):
        """Inference mode is off within, where composite operators would hide their parts."""

    with Seen() as seen:
        replay(calls)()
    assert [call.name for call in seen.calls] == [call.name for call in calls]
    assert [call.args for call in seen.calls] == [call.args for call in calls]


def test_operands_of_one_call_are_different_tensors():
    layout = Layout((2, 2), (2, 1), torch.float32, torch.device("cpu"))
    with ProductRecorder() as recorder:
        x = torch.randn(2, 2)
        torch.mm(x, x)
    (call,) = recorder.calls
    assert call.args == (layout, layout)
    taken = []
    replay([type(call)(lambda *args: taken.extend(args), call.args, call.kwargs)])()
    assert taken[0].data_ptr() != taken[1].data_ptr()


def test_layouts_of_every_kind():
    for tensor in (
        torch.randn(3, 1).expand(3, 4),
        torch.randn(4, 6)[::2, 1:],
        torch.ones(2, 3, dtype=torch.bool),
        torch.randn(0, 3),
        torch.tensor(2.0),
    ):
        assert Layout.of(Layout.of(tensor).tensor()) == Layout.of(tensor)
