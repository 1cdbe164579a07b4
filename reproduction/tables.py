"""Tables 1 to 6 of the paper: every row with its config and the paper's figures.

Source: CLoCKDistill (arXiv:2502.10683v1), Tables 1-6, figures copied digit by digit. Where a gain
that the paper prints is not the difference of its own figures, the row says so.
"""

from projects.clockdistill.configs.models.parts import MINI_TEACHER_CHECKPOINT
from reproduction.blocks import (
    BASELINE,
    TEACHER,
    ap,
    coco,
    dino_row,
    layers,
    longer,
    r18_student,
    r50_student,
)
from reproduction.table import Table

# Weights in this repository, by the teacher's config.
SHIPPED = {"mini/teachers/dino_r50_synthkitti.py": MINI_TEACHER_CHECKPOINT}

# Table 4's longer runs at mini scale, in parts of the other rows' steps. A step of CLoCKDistill
# costs 1.45 to 1.6 times the CPU time of an undistilled one (100 steps each, one thread); the
# table's training times show what it was in its own runs.
EQUAL_TIME = 1.6
LONG = 4.0

CLOCKDISTILL = dino_row("clockdistill", "dino_r18", ap(62.5, 89.2, 72.0))

KITTI_INPUTS = {"full": (402, 1333), "mini": (96, 320)}  # the paper's; synthkitti's frames
COCO_INPUTS = {"full": (800, 1064)}  # the paper's (1064, 800), on its side as most of COCO lies

TABLES = {
    table.number: table
    for table in (
        Table(
            1,
            "which features to distil",
            "DINO ResNet-50 teaches ResNet-18: backbone (neck) features, memory, or both.",
            (
                TEACHER,
                BASELINE,
                dino_row(
                    "backbone",
                    "methods/fitnet_dino_r18",
                    ap(57.4, 85.2, 63.8),
                    "the paper's figures are those of its FitNet row in Table 4, digit for digit",
                ),
                dino_row("memory", "ablations/memory_dino_r18", ap(59.9, 87.7, 67.5)),
                dino_row(
                    "backbone_memory", "ablations/backbone_memory_dino_r18", ap(58.1, 85.5, 65.9)
                ),
            ),
            KITTI_INPUTS,
            rivals=("memory",),
        ),
        Table(
            2,
            "three detectors on KITTI",
            "CLoCKDistill against the undistilled student, input 402 x 1333.",
            (
                *r50_student(
                    "dino",
                    ap(66.9, 91.3, 77.5, 60.3, 66.2, 73.4, GFLOPs=197, Params=66),
                    ap(57.7, 86.4, 64.7, 46.1, 57.6, 68.0, GFLOPs=155, Params=47),
                    ap(63.7, 89.7, 72.6, 57.3, 63.2, 69.8, GFLOPs=155, Params=47),
                ),
                *r18_student(
                    "dino",
                    ap(66.2, 91.3, 75.5, 59.5, 66.0, 72.6, GFLOPs=155, Params=47),
                    ap(56.1, 85.1, 62.9, 45.5, 55.7, 65.4, GFLOPs=128, Params=31),
                    ap(62.5, 89.2, 72.0, 55.7, 62.3, 67.8, GFLOPs=128, Params=31),
                ),
                *r50_student(
                    "dab_detr",
                    ap(50.9, 81.6, 54.1, 37.7, 50.8, 61.9, GFLOPs=98, Params=63),
                    ap(47.5, 80.1, 48.6, 30.8, 47.6, 62.3, GFLOPs=56, Params=44),
                    ap(50.1, 81.8, 54.3, 36.0, 50.6, 60.9, GFLOPs=56, Params=44),
                ),
                *r18_student(
                    "dab_detr",
                    ap(47.5, 80.1, 48.6, 30.8, 47.6, 62.3, GFLOPs=56, Params=44),
                    ap(39.8, 74.6, 38.4, 21.3, 39.5, 57.0, GFLOPs=31, Params=31),
                    ap(45.2, 78.1, 46.2, 30.1, 44.9, 60.3, GFLOPs=31, Params=31),
                ),
                *r50_student(
                    "deformable_detr",
                    ap(61.1, 88.9, 70.1, 51.7, 60.9, 70.3, GFLOPs=148, Params=59),
                    ap(58.7, 87.6, 67.3, 51.3, 58.3, 67.7, GFLOPs=106, Params=40),
                    ap(60.9, 88.5, 68.1, 53.0, 59.2, 68.6, GFLOPs=106, Params=40),
                ),
                *r18_student(
                    "deformable_detr",
                    ap(58.7, 89.8, 66.8, 51.3, 58.3, 69.0, GFLOPs=106, Params=40),
                    ap(56.9, 88.5, 63.0, 48.8, 57.1, 66.1, GFLOPs=79, Params=24),
                    ap(59.8, 89.1, 68.8, 54.8, 60.9, 68.2, GFLOPs=79, Params=24),
                ),
            ),
            KITTI_INPUTS,
            remarks={
                "mini": "not at this scale: the ResNet-50 students of ResNet-101, for want of a "
                "second size of teacher"
            },
        ),
        Table(
            3,
            "three detectors on COCO",
            "CLoCKDistill against the undistilled student, input 1064 x 800.",
            (
                *coco(
                    "dino",
                    ap(49.0, 66.4, 53.3, 31.4, 52.2, 64.0, GFLOPs=249, Params=47),
                    ap(43.5, 60.7, 47.1, 25.3, 46.1, 57.6, GFLOPs=204, Params=31),
                    ap(46.4, 63.3, 50.4, 28.6, 48.7, 61.4, GFLOPs=204, Params=31),
                ),
                *coco(
                    "dab_detr",
                    ap(42.3, 63.0, 45.1, 21.6, 46.0, 61.3, GFLOPs=92, Params=44),
                    ap(33.5, 54.1, 34.5, 13.7, 35.9, 52.5, GFLOPs=50, Params=31),
                    ap(36.3, 56.2, 37.9, 15.5, 39.6, 55.3, GFLOPs=50, Params=31),
                ),
                *coco(
                    "deformable_detr",
                    ap(44.3, 63.2, 48.6, 26.8, 47.7, 58.8, GFLOPs=174, Params=40),
                    ap(37.8, 56.7, 40.8, 19.4, 40.5, 51.7, GFLOPs=129, Params=24),
                    ap(40.0, 57.8, 43.4, 21.9, 42.6, 54.1, GFLOPs=129, Params=24),
                ),
            ),
            COCO_INPUTS,
            remarks={"mini": "there is no small COCO. Use --scale full"},
        ),
        Table(
            4,
            "distillation methods compared",
            "DINO ResNet-50 teaches ResNet-18 on KITTI, by five methods.",
            (
                TEACHER,
                BASELINE,
                dino_row("fitnet", "methods/fitnet_dino_r18", ap(57.4, 85.2, 63.8)),
                dino_row("fgd", "methods/fgd_dino_r18", ap(57.1, 85.3, 64.5)),
                dino_row("mgd", "methods/mgd_dino_r18", ap(60.1, 87.7, 67.5)),
                dino_row("kd_detr", "methods/kd_detr_dino_r18", ap(60.9, 88.2, 68.6)),
                CLOCKDISTILL,
                longer(
                    BASELINE,
                    "equal_time",
                    EQUAL_TIME,
                    "baseline",
                    f"{EQUAL_TIME:g} times the steps: about CLoCKDistill's training time",
                ),
                longer(
                    BASELINE,
                    "long",
                    LONG,
                    "baseline",
                    f"{LONG:g} times the steps: what the student reaches alone, given time",
                ),
                longer(
                    CLOCKDISTILL,
                    "long",
                    LONG,
                    "baseline_long",
                    f"{LONG:g} times the steps; its gain is over baseline_long: what is left of "
                    "the gain once faster convergence no longer counts",
                ),
            ),
            KITTI_INPUTS,
            rivals=("kd_detr", "baseline_equal_time", "baseline_long"),
            remarks={
                "full": "at scale mini alone: baseline_equal_time, baseline_long and "
                "clockdistill_long, which are not the paper's"
            },
        ),
        Table(
            5,
            "parts of CLoCKDistill",
            "DINO ResNet-50 teaches ResNet-18 on KITTI: memory, location-aware mask, target-aware "
            "queries.",
            (
                BASELINE,
                dino_row("memory", "ablations/memory_dino_r18", ap(59.9, 87.7, 67.5)),
                dino_row("memory_mask", "ablations/memory_mask_dino_r18", ap(61.6, 89.4, 68.7)),
                CLOCKDISTILL,
            ),
            KITTI_INPUTS,
            rivals=("memory", "memory_mask"),
        ),
        Table(
            6,
            "fewer encoder and decoder layers",
            "Encoder_decoder layers of the DINO ResNet-18 student on KITTI. FPS in the paper: "
            "A100.",
            (
                *layers(6, 6, 27.5, ap(56.1, 85.1, 62.9), ap(62.5, 89.2, 72.0)),
                *layers(3, 6, 34.7, ap(56.1, 84.8, 63.4), ap(60.4, 89.1, 68.2)),
                *layers(
                    6,
                    3,
                    33.6,
                    ap(54.7, 81.7, 61.4),
                    ap(61.7, 88.2, 70.9),
                    "the paper prints a gain of 5.0, but 61.7 - 54.7 = 7.0",
                ),
                *layers(3, 3, 44.8, ap(52.5, 78.7, 59.7), ap(59.5, 87.2, 67.2)),
            ),
            KITTI_INPUTS,
            remarks={
                "mini": "the small detectors have 2 layers where the paper's have 6, and 1 for 3"
            },
        ),
    )
}
