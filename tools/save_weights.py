"""Write the plain detector of a checkpoint as safetensors, to ship or to publish.

    python tools/save_weights.py output/mini/teachers/dino_r50_synthkitti/model_final.pth \
        projects/clockdistill/weights/dino_r50_synthkitti.safetensors
    python tools/save_weights.py output/mini/pretraining/r18_synthkitti/model_final.pth \
        projects/clockdistill/weights/r18_synthkitti.safetensors --only backbone
"""

import argparse
from pathlib import Path

from safetensors.torch import save

from projects.clockdistill.engine.atomic import atomic_write
from projects.clockdistill.engine.weights import read


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", help="a file that tools/train_net.py wrote")
    parser.add_argument("output", type=Path, help="the .safetensors file to write")
    parser.add_argument("--only", metavar="PART", help="a part of the detector: backbone")
    given = parser.parse_args(arguments)
    # A head with two names is in the file twice, since safetensors cannot share tensors.
    prefix = f"{given.only}." if given.only else ""
    model = {
        key: value.clone().contiguous()
        for key, value in read(given.checkpoint)["model"].items()
        if key.startswith(prefix)
    }
    if not model:
        parser.error(f"{given.checkpoint} has no weights of --only {given.only}")
    given.output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(given.output) as handle:
        handle.write(save(model))
    print(f"{given.output}: {len(model)} tensors, {given.output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
