"""Draw synthkitti: driving scenes in KITTI's tree and label format. Drawn, not KITTI.

python datasets/prepare_synthkitti.py [--frames N] [--seed S] [--out DIR] [--preview FILE.png]

With --preview only a grid of the first frames is drawn, with their boxes.
"""

import argparse
import logging
from pathlib import Path

from PIL import Image

from projects.clockdistill.data.kitti import datasets_root
from projects.clockdistill.data.synthkitti.preview import preview_grid
from projects.clockdistill.data.synthkitti.render import draw_frame
from projects.clockdistill.data.synthkitti.style import SceneStyle
from projects.clockdistill.data.synthkitti.tree import DEFAULT_FRAMES, DEFAULT_SEED, ensure_tree
from projects.clockdistill.engine.arguments import one_line_errors, positive_int, tool_parser
from projects.clockdistill.errors import UserError

_PREVIEW_FRAMES = 24


def draw(arguments: argparse.Namespace) -> None:
    """Draws the tree or the preview."""
    if arguments.seed < 0:
        raise UserError(f"--seed {arguments.seed}: expected a whole number of at least 0")
    if arguments.preview and arguments.preview.suffix.lower() not in (".png", ".jpg"):
        raise UserError(f"--preview {arguments.preview}: expected a name that ends in .png or .jpg")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if arguments.preview:
        count = arguments.frames or _PREVIEW_FRAMES
        frames = [draw_frame(arguments.seed, index, SceneStyle()) for index in range(count)]
        Image.fromarray(preview_grid(frames)).save(arguments.preview)
        print(f"drew {count} frames into {arguments.preview}")
        return
    root = ensure_tree(arguments.out, arguments.frames or DEFAULT_FRAMES, arguments.seed)
    print(f"{root} is complete")


def main(argv: list[str] | None = None) -> None:
    """Runs the command line."""
    parser = tool_parser(__doc__)
    frames = f"default: {DEFAULT_FRAMES}, preview: {_PREVIEW_FRAMES}"
    parser.add_argument("--frames", type=positive_int, help=frames)
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="default: %(default)s")
    parser.add_argument(
        "--out",
        type=Path,
        default=datasets_root() / "synthkitti",
        help="root of the tree (default: %(default)s)",
    )
    parser.add_argument("--preview", type=Path, metavar="FILE.png", help="a grid instead of a tree")
    arguments = parser.parse_args(argv)
    with one_line_errors(arguments.debug):
        draw(arguments)


if __name__ == "__main__":
    main()
