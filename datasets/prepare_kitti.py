"""Check a KITTI tree, print its content and, on request, write it as COCO JSON.

python datasets/prepare_kitti.py [ROOT] [--coco-json OUT.json [--split train]]

The split is that of training: seeded, or the files that $CLOCKDISTILL_KITTI_SPLIT names. The exit
code is 1 if tree or split have a problem.
"""

import argparse
import sys
from pathlib import Path

from projects.clockdistill.data.coco_export import write_coco_json
from projects.clockdistill.data.kitti import (
    SPLIT_FOLDER_VARIABLE,
    datasets_root,
    frame_to_dict,
    load_kitti,
    split_files_of_environment,
)
from projects.clockdistill.data.kitti_check import check_tree, image_table, type_table
from projects.clockdistill.data.kitti_presets import PRESETS
from projects.clockdistill.data.kitti_tree import IMAGE_FOLDER
from projects.clockdistill.engine.arguments import one_line_errors, tool_parser


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = tool_parser(__doc__)
    parser.add_argument(
        "root",
        nargs="?",
        type=Path,
        default=datasets_root() / "kitti",
        help="folder that contains training/image_2 and training/label_2 (default: %(default)s)",
    )
    parser.add_argument("--preset", choices=PRESETS, default="kitti7", help="classes of the JSON")
    parser.add_argument("--coco-json", type=Path, metavar="OUT", help="write COCO JSON here")
    parser.add_argument(
        "--split",
        choices=("all", "train", "val"),
        default="all",
        help="frames of the JSON: all, or a part of the split",
    )
    return parser.parse_args(argv)


def prepare(arguments: argparse.Namespace) -> int:
    """Checks, prints and writes; returns the exit code."""
    root = arguments.root.absolute()
    try:
        report = check_tree(root)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(report.frames)} frames in {root}\n")
    print(image_table(report.frames), end="\n\n")
    print(type_table(report.frames), end="\n\n")
    for problem in report.problems:
        print(problem, file=sys.stderr)
    if report.problems:
        print(f"{len(report.problems)} problems", file=sys.stderr)
    else:
        print("no problems")
    if arguments.coco_json:
        if report.problems:
            print(f"{arguments.coco_json} not written. Fix: repair the files", file=sys.stderr)
            return 1
        preset = PRESETS[arguments.preset]
        if arguments.split == "all":
            dicts = [frame_to_dict(frame, preset) for frame in report.frames]
        else:
            split_files = split_files_of_environment()
            dicts = load_kitti(preset, arguments.split, root, split_files)
            source = f"the files of ${SPLIT_FOLDER_VARIABLE}" if split_files else "seeded, 8:2"
            print(f"split: {source}")
        write_coco_json(arguments.coco_json, dicts, preset.classes, root / IMAGE_FOLDER)
        print(f"wrote {len(dicts)} images to {arguments.coco_json}")
    return 1 if report.problems else 0


def main(argv: list[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    arguments = parse_arguments(argv)
    with one_line_errors(arguments.debug):
        return prepare(arguments)


if __name__ == "__main__":
    sys.exit(main())
