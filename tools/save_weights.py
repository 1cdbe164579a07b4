"""Write the plain detector of a checkpoint as safetensors, to ship or to publish.

    python tools/save_weights.py output/mini/teachers/dino_r50_synthkitti/model_final.pth \
        projects/clockdistill/weights/dino_r50_synthkitti.safetensors
    python tools/save_weights.py output/mini/pretraining/r18_synthkitti/model_final.pth \
        projects/clockdistill/weights/r18_synthkitti.safetensors --only backbone
    python tools/save_weights.py output/mid/teachers/dino_r50_synthkitti/model_final.pth \
        projects/clockdistill/weights/mid_dino_r50_synthkitti.safetensors --half
"""

from pathlib import Path

from safetensors.torch import save

from projects.clockdistill.deployment.model_spec import KEY
from projects.clockdistill.engine.arguments import one_line_errors, tool_parser
from projects.clockdistill.engine.atomic import atomic_write
from projects.clockdistill.engine.weights import local_path, read
from projects.clockdistill.errors import UserError


def save_weights(checkpoint: str, output: Path, only: str | None, *, half: bool = False) -> None:
    """Writes the weights of a checkpoint, or of a part of its detector.

    Raises:
        UserError: if there are none.
    """
    if output.suffix != ".safetensors":
        raise UserError(f"{output}: expected a name that ends in .safetensors")
    # A head with two names is in the file twice, since safetensors cannot share tensors.
    prefix = f"{only}." if only else ""
    content = read(local_path(checkpoint, "checkpoint"))
    model = {
        key: (value.half() if half and value.is_floating_point() else value.clone()).contiguous()
        for key, value in content["model"].items()
        if key.startswith(prefix)
    }
    if not model:
        raise UserError(f"{checkpoint} has no weights of --only {only}")
    output.parent.mkdir(parents=True, exist_ok=True)
    spec = content.get(KEY) if not only else None  # which says how to predict with a detector
    with atomic_write(output) as handle:
        handle.write(save(model, None if spec is None else {KEY: spec}))
    print(f"{output}: {len(model)} tensors, {output.stat().st_size:,} bytes")


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line."""
    parser = tool_parser(__doc__)
    parser.add_argument("checkpoint", help="a file that tools/train_net.py wrote")
    parser.add_argument("output", type=Path, help="the .safetensors file to write")
    parser.add_argument("--only", metavar="PART", help="a part of the detector: backbone")
    parser.add_argument("--half", action="store_true", help="in float16: half the size")
    given = parser.parse_args(arguments)
    with one_line_errors(given.debug):
        save_weights(given.checkpoint, given.output, given.only, half=given.half)


if __name__ == "__main__":
    main()
