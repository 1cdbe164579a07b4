"""Writes a pure-Python wheel: a zip of files, their metadata and a RECORD of their hashes."""

import base64
import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path


def write_wheel(
    folder: Path,
    name: str,
    version: str,
    requires: Sequence[str],
    files: Mapping[str, bytes],
    licences: Mapping[str, bytes],
) -> Path:
    """Writes `<name>-<version>-py3-none-any.whl` into a folder, the same bytes every time.

    Source: the binary distribution format, PEP 427, and core metadata 2.4, PEP 639.

    Args:
        folder: where the wheel goes.
        name: distribution name, already normalised.
        version: PEP 440 version, local label included.
        requires: lines of Requires-Dist.
        files: path below site-packages -> content.
        licences: file name -> content, put next to the metadata.

    Returns:
        The path of the wheel.
    """
    info = f"{name}-{version}.dist-info"
    metadata = [
        "Metadata-Version: 2.4",
        f"Name: {name}",
        f"Version: {version}",
        "Requires-Python: >=3.10",
        "License-Expression: Apache-2.0",
        *(f"License-File: {file}" for file in licences),
        *(f"Requires-Dist: {requirement}" for requirement in requires),
    ]
    wheel = [
        "Wheel-Version: 1.0",
        "Generator: clockdistill",
        "Root-Is-Purelib: true",
        "Tag: py3-none-any",
    ]
    entries = {
        **files,
        **{f"{info}/licenses/{file}": content for file, content in licences.items()},
        f"{info}/METADATA": "\n".join([*metadata, ""]).encode(),
        f"{info}/WHEEL": "\n".join([*wheel, ""]).encode(),
    }
    record = [f"{path},{_digest(content)},{len(content)}" for path, content in entries.items()]
    entries[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()

    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for entry, content in entries.items():
            member = zipfile.ZipInfo(entry)  # its default date, 1980, keeps the bytes the same
            member.external_attr = 0o644 << 16
            archive.writestr(member, content, compress_type=zipfile.ZIP_DEFLATED)
    return path


def _digest(content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
    return f"sha256={digest.decode()}"
