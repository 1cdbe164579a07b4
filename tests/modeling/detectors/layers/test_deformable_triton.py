"""Triton's kernels without a GPU: interpreted, and compiled for several cards."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

# Where triton has wheels it belongs to the test requirements; its absence fails these tests.
pytestmark = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="triton has no wheel here"
)


def test_interpreted_kernels_equal_grid_sample():
    file = Path(__file__).with_name("interpreted_triton.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout


@pytest.mark.parametrize("capability", [75, 80, 90])
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_kernels_compile_for_a_card_and_fit_its_registers(capability, dtype, tmp_path):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from projects.clockdistill.modeling.detectors.layers import deformable_triton

    heads, channels, levels, points = 8, 32, 4, 4  # of all detectors here
    cuobjdump = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    constants = dict(HEADS=heads, CHANNELS=channels, LEVELS=levels, POINTS=points, WIDTH=channels)
    for kernel, (numbers, warps) in (
        (deformable_triton.forward_kernel, deformable_triton.FORWARD_TILE),
        (deformable_triton.backward_kernel, deformable_triton.BACKWARD_TILE),
    ):
        constants["TILE"] = numbers // channels
        types, attributes = {}, {}
        for number, name in enumerate(kernel.arg_names):
            if name in constants:
                types[name] = "constexpr"
            elif name == "sizes":
                types[name] = ("fp32",) * (2 * levels)
            elif name in ("tokens", "queries"):
                types[name] = "i32"
            else:
                types[name] = f"*{dtype if name in ('value', 'output', 'grad') else 'fp32'}"
                attributes[(number,)] = [["tt.divisibility", 16]]
        source = ASTSource(kernel, types, constexprs=constants, attrs=attributes)
        target = GPUTarget("cuda", capability, 32)
        binary = compile(source, target=target, options={"num_warps": warps})
        file = tmp_path / "kernel.cubin"
        file.write_bytes(binary.asm["cubin"])
        usage = subprocess.check_output([cuobjdump, "-res-usage", file], text=True)
        assert "STACK:0 " in usage, usage  # where registers would be spilled to
