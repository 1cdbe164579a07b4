"""What a file is that should hold weights, from its first bytes."""

import json
import zipfile
import zlib
from pathlib import Path

SAFETENSORS, TORCH, PICKLE = "safetensors", "torch", "pickle"  # what can be read

_HEAD = 4096  # bytes that are looked at
_DOWNLOAD = "download the file itself; a browser's or wget's result may be the page about it"
_ONNX_FIELDS = {b"\x12", b"\x1a", b"\x22", b"\x32", b"\x3a", b"\x42"}  # after its version number
_EXPORTED = "name the checkpoint (.pth or .safetensors) that it was exported from"
_COPY_AGAIN = "copy or download it again"
_UNPACK = "unpack it and name the weights in it"
# first bytes -> what begins so, and the fix
_MAGIC = (
    (b"version https://git-lfs", "a pointer of Git LFS", "fetch the file with git lfs pull"),
    (b"/annex/objects", "a pointer of git-annex", "fetch the file with git annex get"),
    (b"\x89HDF", "an HDF5 file (Keras, Matlab)", "name weights of PyTorch"),
    (b"\x89PNG", "a PNG image", "name a file of weights"),
    (b"\xff\xd8\xff", "a JPEG image", "name a file of weights"),
    (b"%PDF", "a PDF document", "name a file of weights"),
    (b"\x1f\x8b", "compressed with gzip", _UNPACK),
    (b"BZh", "compressed with bzip2", _UNPACK),
    (b"\xfd7zXZ", "compressed with xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", _UNPACK),
    (b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"\x93NUMPY", "a NumPy array", "name a file of weights"),
    (b"GGUF", "a GGUF file", "name weights of PyTorch"),
)


class NotWeights(ValueError):
    """A file that holds no weights; the message says what it is, then the fix."""


def kind_of(path: str | Path) -> str:
    """Returns `SAFETENSORS`, `TORCH` or `PICKLE`.

    Raises:
        NotWeights: for anything else: "is ...", then the fix.
    """
    with open(path, "rb") as handle:
        head = handle.read(_HEAD)
    if not head:
        raise _refusal("empty (0 bytes)", "copy or download it again; is the disk full?")
    for magic, what, fix in _MAGIC:
        if head.startswith(magic):
            raise _refusal(what, fix)
    if not head.strip(b"\0"):
        raise _refusal(
            f"damaged: its first {len(head)} bytes are 0", "copy or download the file again"
        )
    if head.startswith(b"PK"):
        return _zip_kind(path)
    if head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= 10**8:
        return SAFETENSORS
    if head.startswith(b"\x80") and head[1:2] in b"\2\3\4\5":
        return TORCH if head[2:13] == b"\x8a\nl\xfc\x9cF\xf9 j\xa8P" else PICKLE  # torch's number
    if head[257:262] == b"ustar":
        raise _refusal("a tar archive", _UNPACK)
    if head[:1] == b"\x08" and head[1:2] < b"\x20" and head[2:3] in _ONNX_FIELDS:
        raise _refusal("an ONNX model", _EXPORTED)
    _refuse_text(path, head)
    raise _refusal(
        f"damaged or not a checkpoint: it begins with {head[:8]!r}",
        "name a file of torch.save (.pth), a .safetensors file or a .pkl of detectron2",
    )


def zip_parts(path: str | Path) -> list[str]:
    """Returns the names of the parts of a zip file, such as those that `torch.save` writes.

    Raises:
        NotWeights: if the file is cut, or a part has not its checksum.
    """
    size = Path(path).stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            is_whole = archive.testzip() is None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError):
        raise _refusal(
            f"damaged: a part of its {size:,} bytes is missing or changed", _COPY_AGAIN
        ) from None
    if not is_whole:  # torch reads such a file without a word
        raise _refusal("damaged: a checksum does not fit its content", _COPY_AGAIN)
    return names


def _zip_kind(path: str | Path) -> str:
    """Returns `TORCH` for the zip file that `torch.save` writes."""
    names = zip_parts(path)
    parts = {name.partition("/")[2] for name in names}
    if {"constants.pkl"} <= parts and any(part.startswith("code/") for part in parts):
        raise _refusal("a TorchScript program", _EXPORTED)
    if "data.pkl" in parts:
        return TORCH
    if any(part.startswith("models/") for part in parts) or "archive_format" in parts:
        raise _refusal("a program of torch.export (.pt2)", _EXPORTED)
    if names and all(name.endswith(".npy") for name in names):
        raise _refusal("a NumPy archive (.npz)", "name a file of torch.save or .safetensors")
    raise _refusal("a zip archive of other files", _UNPACK)


def _refuse_text(path: str | Path, head: bytes) -> None:
    """Refuses web pages, JSON and other text."""
    try:
        text = head.decode("utf-8-sig", errors="strict" if len(head) < _HEAD else "ignore")
    except UnicodeDecodeError:
        return
    begin = text.lstrip().lower()
    if begin.startswith(("<!doctype html", "<html", "<head", "<body")) or "<html" in begin[:1000]:
        raise _refusal("a web page (HTML)", _DOWNLOAD)
    if begin.startswith("<?xml"):
        what = "an OpenVINO model (XML)" if "<net" in begin else "an XML file"
        raise _refusal(what, _EXPORTED if "<net" in begin else _DOWNLOAD)
    if begin.startswith(("{", "[")):
        shown = ""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
            shown = f" with {', '.join(list(content)[:4])}" if isinstance(content, dict) else ""
        except (ValueError, OSError, RecursionError):
            pass
        raise _refusal(f"a JSON file{shown}", "name a file of weights")
    if text.isprintable() or all(c.isprintable() or c.isspace() for c in text):
        first = text.strip().splitlines()[0][:60] if text.strip() else "blanks"
        raise _refusal(f"a text file: {first}", _DOWNLOAD)


def _refusal(what: str, fix: str) -> NotWeights:
    return NotWeights(f"is {what}.\nFix: {fix}")
