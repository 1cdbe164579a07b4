"""Obtains exactly one source archive: pb1-detectron2 0.6, known by its SHA-256.

pip cannot fetch it: before it hands out an sdist it runs the archive's setup.py for metadata,
which here wants torch and then declares requirements that pip refuses. So the archive is read from
the places that pip is configured for, and no line of its setup.py ever runs.
"""

import ast
import base64
import hashlib
import io
import json
import re
import ssl
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Mapping
from html.parser import HTMLParser
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import unquote, urldefrag, urljoin, urlsplit, urlunsplit

PROJECT = "pb1-detectron2"
FILE_NAME = "pb1-detectron2-0.6.tar.gz"
SHA256 = "5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"

# What upstream's setup.py maps into the package; everything else of the archive stays behind.
PACKAGES = {
    "detectron2": "detectron2",
    "projects/PointRend/point_rend": "detectron2/projects/point_rend",
    "projects/DeepLab/deeplab": "detectron2/projects/deeplab",
    "projects/Panoptic-DeepLab/panoptic_deeplab": "detectron2/projects/panoptic_deeplab",
}


def verify(archive: bytes, origin: str) -> bytes:
    """Returns the archive if it is the expected one.

    Raises:
        ValueError: if its SHA-256 differs.
    """
    found = hashlib.sha256(archive).hexdigest()
    if found != SHA256:
        raise ValueError(f"{origin} is refused: its sha256 is {found}, expected {SHA256}")
    return archive


def unpack(archive: bytes) -> tuple[dict[str, bytes], bytes]:
    """Reads the package's files, under the paths that they are installed at, and the licence.

    Raises:
        ValueError: if a package or the licence is missing.
    """
    files, licence = {}, None
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in filter(tarfile.TarInfo.isfile, tar):
            path = member.name.partition("/")[2]  # without the archive's own top folder
            if path == "LICENSE":
                licence = tar.extractfile(member).read()
            for source, target in PACKAGES.items():
                if path.startswith(f"{source}/"):
                    files[target + path[len(source) :]] = tar.extractfile(member).read()
    missing = [t for t in PACKAGES.values() if f"{t}/__init__.py" not in files]
    if missing or licence is None:
        raise ValueError(f"{FILE_NAME} lacks {', '.join(missing or ['LICENSE'])}")
    return files, licence


def obtain() -> bytes:
    """Reads the archive from pip's find-links, else from pip's package indexes.

    Raises:
        ValueError: if what is found there has another SHA-256.
        FileNotFoundError: if it is found nowhere; the message lists where and why.
    """
    config = _pip_config()
    pages, tried = [], []
    for place in config.get("find-links", "").split():
        path = Path(unquote(urlsplit(place).path))
        if urlsplit(place).scheme not in ("", "file") or path.suffix == ".html":
            pages.append(place)
        elif (path / FILE_NAME).is_file():
            return verify((path / FILE_NAME).read_bytes(), str(path / FILE_NAME))
        else:
            tried.append(f"{place}: no {FILE_NAME} in it")
    if config.get("no-index", "").lower() not in ("1", "true", "yes", "on"):
        indexes = [config.get("index-url") or _default_index()]
        indexes += config.get("extra-index-url", "").split()
        pages += [f"{index.rstrip('/')}/{PROJECT}/" for index in indexes]

    opener = _opener(config)
    timeout = float(config.get("timeout", config.get("default-timeout", 60)))
    for page in pages:
        try:
            link = _find_link(opener, page, timeout)
            if link is None:
                tried.append(f"{_without_login(page)}: lists no {FILE_NAME}")
                continue
            archive, _, _ = _read(opener, link, timeout)
        except (OSError, HTTPException) as error:  # URLError and time-outs are OSErrors
            tried.append(f"{_without_login(page)}: {error}")
            continue
        return verify(archive, _without_login(link))
    raise FileNotFoundError(
        f"{FILE_NAME} was not found. Tried:\n  " + "\n  ".join(tried) + "\nWithout a network, "
        "copy that file to this machine and pass it with --sdist, or install another detectron2 "
        "yourself: it is then used as it is."
    )


def _pip_config() -> dict[str, str]:
    """Returns the settings of pip from its files and environment; as in pip, the later one wins."""
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in _pip("config", "list").splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in sections:
            sections[section][key] = ast.literal_eval(value)
    return {**sections["global"], **sections["install"], **sections[":env:"]}


def _default_index() -> str:
    """Returns the index that pip uses where none is configured, as its help states it."""
    return re.search(r"\(default\s+(https?://[^\s)]+)\)", _pip("download", "--help")).group(1)


def _pip(*arguments: str) -> str:
    command = [sys.executable, "-m", "pip", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def _opener(config: Mapping[str, str]) -> urllib.request.OpenerDirector:
    context = ssl.create_default_context(cafile=config.get("cert"))
    handlers = [urllib.request.HTTPSHandler(context=context)]
    if "proxy" in config:
        proxies = dict.fromkeys(("http", "https"), config["proxy"])
        handlers.append(urllib.request.ProxyHandler(proxies))
    return urllib.request.build_opener(*handlers)


def _read(
    opener: urllib.request.OpenerDirector, url: str, timeout: float
) -> tuple[bytes, str, str]:
    """Returns body, content type and the address after redirections; tries three times."""
    accept = "application/vnd.pypi.simple.v1+json, text/html;q=0.5, */*;q=0.1"
    request = urllib.request.Request(_without_login(url), headers={"Accept": accept})
    login = urlsplit(url).netloc.rpartition("@")[0]
    if login:
        code = base64.b64encode(unquote(login).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {code}")
    for pause in (1, 3, None):
        try:
            with opener.open(request, timeout=timeout) as response:
                return response.read(), response.headers.get_content_type(), response.url
        except (OSError, HTTPException) as error:
            final = isinstance(error, HTTPError) and error.code < 500
            if final or pause is None or urlsplit(url).scheme == "file":
                raise
            time.sleep(pause)
    raise AssertionError("the last try returns or raises")


def _find_link(opener: urllib.request.OpenerDirector, page: str, timeout: float) -> str | None:
    """Finds the archive's address on an index page, which is JSON (PEP 691) or HTML (PEP 503)."""
    if urlsplit(page).scheme == "file" and page.endswith("/"):
        page += "index.html"
    body, content_type, base = _read(opener, page, timeout)
    if content_type.endswith("json"):
        links = [file["url"] for file in json.loads(body)["files"]]
    else:
        parser = _Anchors()
        parser.feed(body.decode())
        links = parser.links
    for link in links:
        url = urldefrag(urljoin(base, link)).url
        if unquote(urlsplit(url).path).endswith(f"/{FILE_NAME}"):
            return _with_login_of(page, url)
    return None


class _Anchors(HTMLParser):
    def __init__(self):
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.links += [value for key, value in attrs if key == "href" and value]


def _without_login(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _with_login_of(page: str, url: str) -> str:
    """Gives the index's login to a file on the same host, never to another host."""
    if urlsplit(url).netloc == urlsplit(_without_login(page)).netloc:
        return urlunsplit(urlsplit(url)._replace(netloc=urlsplit(page).netloc))
    return url
