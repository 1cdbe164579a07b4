"""Tests the recipe that builds detectron2 on small made-up archives, without a network."""

import base64
import csv
import hashlib
import http.server
import importlib
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from importlib.metadata import Distribution
from pathlib import Path

import install
import no_compiled_ops
import patches
import pytest
import sdist
from patches import Patch
from wheel_file import write_wheel

RECIPE = Path(install.__file__).parent


def make_archive(*, without: str = "") -> bytes:
    """A source archive with every package that the recipe takes, a setup.py and a licence."""
    members = {f"{source}/__init__.py": b"x = 1\n" for source in sdist.PACKAGES}
    members |= {"LICENSE": b"the licence", "setup.py": b"raise SystemExit('never run')"}
    members.pop(without, None)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(f"top/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A made-up archive which is, for this test, the one that the recipe expects."""
    content = make_archive()
    monkeypatch.setattr(sdist, "SHA256", hashlib.sha256(content).hexdigest())
    return content


@pytest.fixture
def pip_config(monkeypatch: pytest.MonkeyPatch):
    """Gives pip these settings and no others."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)

    def set_options(**options: str) -> None:
        for name, value in options.items():
            monkeypatch.setenv(f"PIP_{name.upper()}", value)

    return set_options


@pytest.fixture
def index_server():
    """A package index on this machine; yields its port, its pages and the logins it was shown."""
    pages: dict[str, tuple[str, bytes]] = {}
    logins: list[str | None] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            logins.append(self.headers["Authorization"])
            content_type, body = pages.get(self.path, ("", b""))
            self.send_response(200 if content_type else 404)
            self.send_header("Content-Type", content_type)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, pages, logins
        server.shutdown()


def test_a_tampered_archive_is_refused_and_nothing_is_built(tmp_path, archive):
    file = tmp_path / "tampered.tar.gz"
    file.write_bytes(archive + b"\0")
    with pytest.raises(SystemExit, match=f"refused: its sha256 is .*, expected {sdist.SHA256}"):
        install.main(["--sdist", str(file), "--wheel-only", str(tmp_path)])
    assert not list(tmp_path.glob("*.whl"))


def test_an_absent_archive_is_a_message(tmp_path):
    with pytest.raises(SystemExit, match="no-such-file"):
        install.main(["--sdist", str(tmp_path / "no-such-file"), "--wheel-only", str(tmp_path)])


def test_obtains_from_a_find_links_folder(tmp_path, archive, pip_config):
    (tmp_path / sdist.FILE_NAME).write_bytes(archive)
    pip_config(find_links=f"/nowhere {tmp_path.as_uri()}", no_index="1")
    assert sdist.obtain() == archive


def test_obtains_from_a_json_index_with_a_login(archive, pip_config, index_server):
    port, pages, logins = index_server
    listing = {"files": [{"url": f"http://127.0.0.1:{port}/files/{sdist.FILE_NAME}"}]}
    json_type = "application/vnd.pypi.simple.v1+json"
    pages[f"/simple/{sdist.PROJECT}/"] = (json_type, json.dumps(listing).encode())
    pages[f"/files/{sdist.FILE_NAME}"] = ("application/gzip", archive)
    # the first index lacks the project, so the extra one is read
    pip_config(
        index_url=f"http://127.0.0.1:{port}/empty",
        extra_index_url=f"http://me:p%40ss@127.0.0.1:{port}/simple/",
    )
    assert sdist.obtain() == archive
    basic = f"Basic {base64.b64encode(b'me:p@ss').decode()}"
    assert logins == [None, basic, basic]


def test_a_login_is_not_sent_to_another_host(archive, pip_config, index_server):
    port, pages, logins = index_server
    elsewhere = f"http://localhost:{port}/files/{sdist.FILE_NAME}"
    pages[f"/simple/{sdist.PROJECT}/"] = ("text/html", f'<a href="{elsewhere}">it</a>'.encode())
    pages[f"/files/{sdist.FILE_NAME}"] = ("application/gzip", archive)
    pip_config(index_url=f"http://me:secret@127.0.0.1:{port}/simple")
    assert sdist.obtain() == archive
    assert [login is None for login in logins] == [False, True]


def test_another_archive_under_the_same_name_is_refused(archive, pip_config, index_server):
    port, pages, _ = index_server
    pages[f"/{sdist.PROJECT}/"] = ("text/html", f'<a href="/{sdist.FILE_NAME}">it</a>'.encode())
    pages[f"/{sdist.FILE_NAME}"] = ("application/gzip", archive + b"\0")
    pip_config(index_url=f"http://127.0.0.1:{port}")
    with pytest.raises(ValueError, match="refused"):
        sdist.obtain()


def test_found_nowhere_names_each_place_and_no_password(tmp_path, pip_config, index_server):
    port, pages, _ = index_server
    pages[f"/simple/{sdist.PROJECT}/"] = ("text/html", b"<a href='other.tar.gz'>other</a>")
    pip_config(
        find_links=str(tmp_path),
        index_url=f"http://me:secret@127.0.0.1:{port}/simple",
        extra_index_url=f"http://127.0.0.1:{port}/absent",
    )
    with pytest.raises(FileNotFoundError, match="--sdist") as caught:
        sdist.obtain()
    message = str(caught.value)
    assert f"{tmp_path}: no {sdist.FILE_NAME} in it" in message
    assert f"127.0.0.1:{port}/simple/{sdist.PROJECT}/: lists no {sdist.FILE_NAME}" in message
    assert f"127.0.0.1:{port}/absent/{sdist.PROJECT}/: HTTP Error 404" in message
    assert "secret" not in message


def test_unpack_takes_the_package_and_its_three_projects_and_nothing_else():
    files, licence = sdist.unpack(make_archive())
    assert sorted(files) == [
        "detectron2/__init__.py",
        "detectron2/projects/deeplab/__init__.py",
        "detectron2/projects/panoptic_deeplab/__init__.py",
        "detectron2/projects/point_rend/__init__.py",
    ]
    assert licence == b"the licence"


@pytest.mark.parametrize(
    ("without", "named"),
    [("LICENSE", "LICENSE"), ("projects/PointRend/point_rend/__init__.py", "point_rend")],
)
def test_unpack_refuses_an_archive_that_lacks_a_part(without, named):
    with pytest.raises(ValueError, match=named):
        sdist.unpack(make_archive(without=without))


def test_a_patch_changes_its_places_and_says_so():
    patch = Patch("m", "r", r"\bold\b", "new", {"a.py": 2})
    files = {"a.py": b"old + old\n", "b.py": b"older\n", "c.txt": b"old\n"}
    patched, changed = patches.apply(files, [patch])
    note, code = patched["a.py"].decode().splitlines()
    assert note.startswith("# Changed")
    assert code == "new + new"
    assert patched["b.py"] == b"older\n"
    assert patched["c.txt"] == b"old\n"
    assert changed == ["a.py"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.py": b"old old old"}, "patch 'm': a.py has 3 places, expected 2"),
        ({"a.py": b"old old", "b.py": b"old"}, "patch 'm': b.py has 1 places, expected 0"),
        ({"b.py": b""}, "patch 'm': a.py has 0 places, expected 2"),
    ],
)
def test_a_patch_that_matches_another_number_of_places_is_refused(files, message):
    with pytest.raises(ValueError, match=message):
        patches.apply(files, [Patch("m", "r", r"\bold\b", "new", {"a.py": 2})])


def test_patches_refuse_an_archive_of_the_right_shape_with_other_code(tmp_path, archive):
    file = tmp_path / sdist.FILE_NAME
    file.write_bytes(archive)
    with pytest.raises(SystemExit, match=r"patch 'Image.LINEAR': .* 0 places, expected 1"):
        install.main(["--sdist", str(file), "--wheel-only", str(tmp_path)])
    assert not list(tmp_path.glob("*.whl"))


def test_compiled_operators_raise_on_use_and_the_environment_report_does_not():
    with pytest.raises(ImportError, match=r"nms_rotated is a compiled operator.*pip install"):
        _ = no_compiled_ops.nms_rotated
    assert not hasattr(no_compiled_ops, "__path__")
    assert "none" in no_compiled_ops.get_compiler_version()
    assert no_compiled_ops.get_cuda_version() == "none"
    assert no_compiled_ops.has_cuda() is False


def test_wheel_is_recorded_repeatable_and_installed_by_pip(tmp_path):
    arguments = ("made_up", "1.0+x.1", ["numpy"], {"made_up/__init__.py": b"x = 1\n"})
    licences = {"LICENSE": b"words", "NOTICE": b"changes"}
    (tmp_path / "again").mkdir()
    wheel = write_wheel(tmp_path, *arguments, licences)
    assert write_wheel(tmp_path / "again", *arguments, licences).read_bytes() == wheel.read_bytes()

    with zipfile.ZipFile(wheel) as content:
        rows = csv.reader(content.read("made_up-1.0+x.1.dist-info/RECORD").decode().splitlines())
        recorded = {path: (digest, size) for path, digest, size in rows}
        assert recorded.keys() == set(content.namelist())
        for path, (digest, size) in recorded.items():
            if not path.endswith("RECORD"):
                data = content.read(path)
                expected = base64.urlsafe_b64encode(hashlib.sha256(data).digest())
                assert digest == f"sha256={expected.decode().rstrip('=')}"
                assert int(size) == len(data)

    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", str(tmp_path / "site"), str(wheel)], check=True)
    (installed,) = Distribution.discover(name="made_up", path=[str(tmp_path / "site")])
    assert installed.version == "1.0+x.1"
    assert installed.requires == ["numpy"]
    assert installed.metadata.get_all("License-File") == ["LICENSE", "NOTICE"]
    assert installed.locate_file("made_up/__init__.py").read_bytes() == b"x = 1\n"


def test_notice_names_origin_changes_and_files(tmp_path, archive, monkeypatch):
    path = "detectron2/__init__.py"
    places = {f"{target}/__init__.py": 1 for target in sdist.PACKAGES.values()}
    monkeypatch.setattr(install, "PATCHES", [Patch("x to y", "to show it", "^x", "y", places)])
    with zipfile.ZipFile(install.build_wheel(archive, tmp_path)) as wheel:
        info = f"detectron2-{install.VERSION}.dist-info"
        notice = wheel.read(f"{info}/licenses/NOTICE").decode()
        assert wheel.read(f"{info}/licenses/LICENSE") == b"the licence"
        assert wheel.read(path).decode().endswith("y = 1\n")
        assert wheel.read("detectron2/_C.py") == (RECIPE / "no_compiled_ops.py").read_bytes()
    for part in (sdist.FILE_NAME, install.UPSTREAM, "Facebook", "x to y: to show it", path):
        assert part in notice


def test_an_installed_detectron2_is_left_untouched():
    run = subprocess.run(
        [sys.executable, str(RECIPE / "install.py"), "--sdist", "/no/such/file"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.startswith("detectron2 ")
    assert run.stdout.endswith("used as it is\n")


@pytest.mark.parametrize(
    ("version", "kept"),
    [("0.6", True), (install.VERSION, True), ("0.6+clockdistill.0", False), ("0.6+cu118", True)],
)
def test_only_an_older_wheel_of_this_recipe_is_replaced(monkeypatch, version, kept):
    monkeypatch.setattr(install.importlib.metadata, "version", lambda _: version)
    assert (install.find_installed() is not None) == kept


def test_the_installed_detectron2_has_what_the_project_and_detrex_import():
    modules = ("layers", "engine", "evaluation", "export", "utils.analysis", "projects.point_rend")
    for module in modules:
        importlib.import_module(f"detectron2.{module}")
    # reads a file of the package, which in v0.6 needed pkg_resources
    model_zoo = importlib.import_module("detectron2.model_zoo")
    assert Path(model_zoo.get_config_file("Base-RCNN-FPN.yaml")).is_file()
    report = importlib.import_module("detectron2.utils.collect_env").collect_env_info()
    assert "failed to import" not in report
    assert "not built correctly" not in report
