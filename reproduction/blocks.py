"""The blocks that the paper's tables are made of: rows that come together, named alike."""

from dataclasses import replace

from reproduction.table import METRICS, Configs, Row


def kitti(stem: str) -> Configs:
    """An experiment that both scales have."""
    return {"full": f"{stem}_kitti.py", "mini": f"mini/{stem}_synthkitti.py"}


def full(stem: str) -> Configs:
    """An experiment on KITTI or COCO that has no small twin."""
    return {"full": f"{stem}.py"}


def ap(*figures: float, **more: float) -> dict[str, float]:
    """The paper's figures in the order of `METRICS`, as far as it gives them."""
    return {**dict(zip(METRICS, figures, strict=False)), **more}


DINO_TEACHER = kitti("teachers/dino_r50")
DINO_STUDENT = kitti("baselines/dino_r18")


def dino_row(name: str, stem: str, paper: dict[str, float], note: str = "") -> Row:
    """A method on the DINO ResNet-18 student of Tables 1, 4 and 5."""
    return Row(
        name,
        kitti(stem),
        paper,
        teacher=DINO_TEACHER,
        compared_with="baseline",
        note=note,
    )


TEACHER = Row(
    "teacher",
    DINO_TEACHER,
    ap(66.2, 91.3, 75.5),
    compared_with="baseline",
    seeded=False,
    note="trained once, for longer than the students; it is the same in all rows",
)
BASELINE = Row("baseline", DINO_STUDENT, ap(56.1, 85.1, 62.9))


def longer(row: Row, variant: str, steps_factor: float, compared_with: str, note: str) -> Row:
    """A row with more steps, at mini scale; the paper has none.

    Args:
        row: what is trained longer.
        variant: ends the new row's name.
        steps_factor: times the row's steps.
        compared_with: the row that its gain is taken over.
        note: for the foot of the table.
    """
    return replace(
        row,
        name=f"{row.name}_{variant}",
        configs={"mini": row.configs["mini"]},
        paper={},
        compared_with=compared_with,
        variant=variant,
        steps_factor=steps_factor,
        note=note,
    )


def trio(
    name: str,
    suffix: str,
    teacher: Configs,
    student: Configs,
    distilled: Configs,
    teacher_paper: dict[str, float],
    student_paper: dict[str, float],
    distilled_paper: dict[str, float],
) -> tuple[Row, Row, Row]:
    """Teacher, baseline and CLoCKDistill of one detector: a block of Tables 2 and 3."""
    baseline = f"{name}{suffix}/baseline"
    return (
        Row(
            f"{name}{suffix}/teacher",
            teacher,
            teacher_paper,
            compared_with=baseline,
            seeded=False,
        ),
        Row(baseline, student, student_paper),
        Row(
            f"{name}{suffix}/clockdistill",
            distilled,
            distilled_paper,
            teacher=teacher,
            compared_with=baseline,
        ),
    )


def r50_student(name: str, *papers: dict[str, float]) -> tuple[Row, Row, Row]:
    """ResNet-101 teaches ResNet-50 on KITTI; at full scale alone."""
    return trio(
        name,
        "_r50",
        full(f"teachers/{name}_r101_kitti"),
        full(f"{'baselines' if name == 'dino' else 'teachers'}/{name}_r50_kitti"),
        full(f"{name}_r50_kitti"),
        *papers,
    )


def r18_student(name: str, *papers: dict[str, float]) -> tuple[Row, Row, Row]:
    """ResNet-50 teaches ResNet-18 on KITTI."""
    return trio(
        name,
        "_r18",
        kitti(f"teachers/{name}_r50"),
        kitti(f"baselines/{name}_r18"),
        kitti(f"{name}_r18"),
        *papers,
    )


def coco(name: str, *papers: dict[str, float]) -> tuple[Row, Row, Row]:
    """ResNet-50 teaches ResNet-18 on COCO."""
    return trio(
        name,
        "_r18",
        full(f"teachers/{name}_r50_coco"),
        full(f"baselines/{name}_r18_coco"),
        full(f"{name}_r18_coco"),
        *papers,
    )


def layers(
    encoder: int,
    decoder: int,
    fps: float,
    baseline_paper: dict[str, float],
    distilled_paper: dict[str, float],
    note: str = "",
) -> tuple[Row, Row]:
    """A pair of Table 6. The small detectors have 2 layers where the paper's have 6."""
    name = f"{encoder}_{decoder}"
    whole = name == "6_6"
    keys = [
        f"transformer.{part}.num_layers={count // 3}"
        for part, count in (("encoder", encoder), ("decoder", decoder))
    ]
    baseline = dict(DINO_STUDENT)
    distilled = dict(kitti("dino_r18"))
    if not whole:
        baseline["full"] = f"ablations/baselines/layers_{name}_dino_r18_kitti.py"
        distilled["full"] = f"ablations/layers_{name}_dino_r18_kitti.py"
    return (
        Row(
            f"{name}/baseline",
            baseline,
            {**baseline_paper, "FPS": fps},
            overrides={} if whole else {"mini": tuple(f"model.{key}" for key in keys)},
            variant=f"layers_{name}",
        ),
        Row(
            f"{name}/clockdistill",
            distilled,
            {**distilled_paper, "FPS": fps},
            teacher=DINO_TEACHER,
            compared_with=f"{name}/baseline",
            overrides={} if whole else {"mini": tuple(f"model.student.{key}" for key in keys)},
            note=note,
            variant=f"layers_{name}",
        ),
    )
