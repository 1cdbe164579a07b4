"""The check of one dataset before training: its image files, its annotations, one table."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from detectron2.data.catalog import Metadata

from projects.clockdistill.data.annotation_rules import check_annotations, unmatched_objects
from projects.clockdistill.data.annotations import is_size
from projects.clockdistill.data.dataset_table import dataset_table
from projects.clockdistill.data.findings import Findings, some
from projects.clockdistill.data.image_header import ImageError, ImageHeader
from projects.clockdistill.data.image_pixels import check_image
from projects.clockdistill.data.parallel import map_chunks
from projects.clockdistill.data.passed_checks import fingerprint, recall, remember

TURNED = "photographs turned upright, as their EXIF data says"
NOT_TURNED = "photographs not turned, since width and height are those of the stored image"
SCALED = "images of 16 bits, divided by 257"
SKIPPED = "images that cannot be used, skipped"


@dataclass(frozen=True)
class DatasetReport:
    """What the check of a dataset found.

    Attributes:
        table: its content, for people.
        errors: what ends the run.
        warnings: what the user should look at.
        left_out: the file and the id of every image that is skipped.
    """

    table: str
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    left_out: list[tuple[str, Any]] = field(default_factory=list)


def check_dataset(
    dicts: Sequence[dict],
    metadata: Metadata,
    title: str,
    *,
    queries: int | None = None,
    decode: bool = False,
    skip_bad_images: bool = False,
) -> DatasetReport:
    """Checks a dataset; one that passed is remembered by size and time of its files.

    Args:
        dicts: detectron2's dataset dicts.
        metadata: of the dataset, with `thing_classes`.
        title: head of the table.
        queries: of the detector that trains on it; None does not compare them with the objects.
        decode: decode every image. If False, headers and ends of the files are read, and a file
            whose end is not that of its format is decoded.
        skip_bad_images: leave images out that cannot be used, instead of an error for each.
    """
    dicts = list(dicts)
    known_as = fingerprint(dicts)
    has_file = bool(getattr(metadata, "json_file", None))
    settings = [list(metadata.thing_classes), title, has_file, queries, skip_bad_images]
    for was_decoded in (True,) if decode else (False, True):
        if (known := recall(known_as, [*settings, was_decoded])) is not None:
            return DatasetReport(**known)
    findings = Findings()
    left_out = _check_images(dicts, findings, title, decode=decode, skip=skip_bad_images)
    kept = dicts
    if left_out:
        gone = {name for name, _ in left_out}
        kept = [record for record in dicts if record["file_name"] not in gone]
    annotations = check_annotations(kept, metadata, findings)
    if queries is not None and not findings.errors and (count := unmatched_objects(kept, queries)):
        findings.warn(
            f"{count} objects cannot be matched, because their images have more objects than the "
            f"detector's {queries} queries. Fix: raise num_queries"
        )
    table = dataset_table(annotations, list(metadata.thing_classes), findings, title)
    report = DatasetReport(table, findings.errors, findings.warnings, left_out)
    if not report.errors:
        remember(known_as, [*settings, decode], asdict(report))
    return report


@dataclass
class _Images:
    """What a part of the images showed."""

    bad: list[tuple[str, Any, str]] = field(default_factory=list)  # file, id, message
    counts: Counter[str] = field(default_factory=Counter)
    ambiguous: list[str] = field(default_factory=list)  # turned, of one size either way


def _check_images(
    dicts: Sequence[dict], findings: Findings, title: str, *, decode: bool, skip: bool
) -> list[tuple[str, Any]]:
    """Checks all image files; returns file and id of those that are to be left out."""

    def check(part: Sequence[dict]) -> _Images:
        images = _Images()
        for record in part:
            _check_image(record, images, decode)
        return images

    found = _Images()
    for part in map_chunks(check, dicts, progress=title):
        found.bad += part.bad
        found.counts += part.counts
        found.ambiguous += part.ambiguous
    for what, number in sorted(found.counts.items()):
        findings.count(what, number)
    if found.counts[NOT_TURNED] and found.ambiguous:
        findings.warn(
            f"{found.counts[NOT_TURNED]} photographs are annotated as stored, without their EXIF "
            f"rotation. {len(found.ambiguous)} others are turned by 180 degrees, mirrored or "
            f"square, where width and height do not tell: {some(found.ambiguous)}. "
            "Fix: remove their EXIF orientation if their boxes belong to the stored image"
        )
    if skip and found.bad:
        findings.count(SKIPPED, len(found.bad))
        findings.warn(
            f"{len(found.bad)} images are skipped: {some(why for _, _, why in found.bad)}"
        )
        if len(found.bad) == len(dicts):
            findings.error(f"none of the {len(dicts)} images can be used: {found.bad[0][2]}")
        return [(name, id_) for name, id_, _ in found.bad]
    for _, _, why in found.bad:
        findings.error(why)
    return []


def _check_image(record: dict, images: _Images, decode: bool) -> None:
    """Checks one image file; a dict that names none is left to the check of the annotations."""
    path = record.get("file_name") if isinstance(record, dict) else None
    if not isinstance(path, str):
        return
    if "://" in path:
        images.counts["images that are not on this machine, not checked"] += 1
        return
    size = record.get("width"), record.get("height")
    annotated = size if all(map(is_size, size)) else None
    try:
        header = check_image(path, annotated, decode=decode)
    except ImageError as error:
        images.bad.append((path, record.get("image_id"), str(error)))
        return
    _count(header, annotated, path, images)


def _count(
    header: ImageHeader, annotated: tuple[int, int] | None, path: str, images: _Images
) -> None:
    if header.bits == 16:
        images.counts[SCALED] += 1
    elif header.mode != "RGB":
        images.counts[f"images of mode {header.mode}, converted to RGB"] += 1
    if header.orientation == 1:
        return
    images.counts[TURNED if header.is_turned(annotated) else NOT_TURNED] += 1
    if header.size == header.displayed_size:
        images.ambiguous.append(path)
