"""Tests that a report shows what a run's folder holds, whatever is missing in it."""

import html
import json
import logging
import os
import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog

from projects.clockdistill.engine.config_file import ConfigError
from projects.clockdistill.report.after_run import try_write_report
from projects.clockdistill.report.page import write_comparison, write_report
from projects.clockdistill.report.run import find_teacher, find_undistilled, read_run
from tests.report.made_up_run import made_up_run
from tests.tiny_run import DISTILLED, PLAIN, TEACHER

VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Collects what a page says, and fails where tags do not match."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text()
        self.text, self.headings, self.ids, self.references = "", [], [], []
        self.alternatives, self.counts = [], Counter()
        self._open: list[str] = []
        self.feed(self.source)
        assert not self._open

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.counts[tag] += 1
        self._read(dict(attrs))

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.handle_startendtag(tag, attrs)
        if re.fullmatch(r"h\d", tag):
            self.headings.append(int(tag[1]))
        if tag == "img":
            self.alternatives.append(dict(attrs)["alt"])
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.text += data

    def _read(self, attributes: dict) -> None:
        self.ids += [attributes["id"]] if "id" in attributes else []
        names = ("src", "href", "xlink:href")
        self.references += [attributes[name] for name in names if name in attributes]

    def check(self) -> None:
        """Asserts that the page needs no other file, and that its parts can be found."""
        assert all(ref.startswith(("#", "data:")) for ref in self.references), self.references
        inner = {ref[1:] for ref in self.references if ref.startswith("#")}
        inner |= set(re.findall(r"url\(#([^)]+)\)", self.source))
        assert inner <= set(self.ids)
        assert max(Counter(self.ids).values()) == 1
        assert self.headings[0] == 1 and self.headings.count(1) == 1
        assert all(b - a <= 1 for a, b in zip(self.headings, self.headings[1:], strict=False))
        assert "@import" not in self.source and "<script" not in self.source


def report(folder: Path) -> Page:
    page = Page(write_report(folder))
    page.check()
    return page


def test_report_of_a_trained_detector(tmp_path: Path) -> None:
    page = report(made_up_run(tmp_path))
    results = json.loads((tmp_path / "output/results.json").read_text())["bbox"]
    assert f"reaches {results['AP']:.1f} AP on drawings_val" in page.text
    for part in ("Configuration", "Sum of the losses", "AP over steps", "Precision over recall"):
        assert part in page.text
    # from the kept detections AP is the same to 1e-6, or there would be a warning
    assert "warning" not in page.source.split("</style>")[1]
    # every other of 8 images has the detections of the next
    assert len(page.alternatives) == 4
    assert all("missed" in text or "false alarm" in text for text in page.alternatives)
    assert "0.250 s a step, 16.0 images a second; waiting for data 20%" in page.text


def test_perfect_detections_have_no_bad_image(tmp_path: Path) -> None:
    page = report(made_up_run(tmp_path, trained=False, mistakes=False))
    assert "finds 100% of the objects, and 100% of its detections are right" in page.text
    assert not page.alternatives and "Sum of the losses" not in page.text
    assert "AdamW" not in page.text.split("The whole config")[0]  # nothing was trained


def test_teacher_and_undistilled_student_are_shown_with_their_source(tmp_path: Path) -> None:
    checkpoint = tmp_path / "teacher.pth"
    checkpoint.touch()
    weights = (f"model.teacher_checkpoint={checkpoint}",)
    student = made_up_run(tmp_path, DISTILLED, "student", overrides=weights)
    run = read_run(student)
    assert find_teacher(run) is None and find_undistilled(run) is None
    evaluated = (f"train.init_checkpoint={checkpoint}",)
    made_up_run(tmp_path, TEACHER, "teacher", trained=False, mistakes=False, overrides=evaluated)
    old = made_up_run(tmp_path, PLAIN, "old")
    os.utime(old / "results.json", (0, 0))
    made_up_run(tmp_path, PLAIN, "plain")
    # another detector, and an evaluation of other weights, are neither
    made_up_run(tmp_path, PLAIN, "other", overrides=("model.num_queries=10",))
    made_up_run(tmp_path, TEACHER, "stranger", trained=False)
    (tmp_path / "baselines").mkdir()
    (tmp_path / "plain").rename(tmp_path / "baselines" / "plain")
    assert find_teacher(run).run.name == "teacher"
    assert find_undistilled(run).run.name == "plain"
    page = report(student)
    assert (
        "../baselines/plain, the same student trained without a teacher, the newest of 2"
        in page.text
    )
    assert "../teacher, an evaluation of the same checkpoint" in page.text
    assert "its teacher reaches 100.0" in page.text and "a difference of +0.0" in page.text


def test_what_differs_from_the_runs_compared_is_said(tmp_path: Path) -> None:
    teacher = made_up_run(tmp_path, TEACHER, "teacher")
    weights = (f"model.teacher_checkpoint={teacher / 'model_0000003.pth'}",)
    student = made_up_run(tmp_path, DISTILLED, "student", overrides=weights)
    made_up_run(tmp_path, PLAIN, "data", overrides=("dataloader.train.dataset.names=drawings_val",))
    assert find_undistilled(read_run(student)) is None
    made_up_run(tmp_path, PLAIN, "rate", overrides=("optimizer.lr=0.5",))
    page = report(student)
    assert "the same student trained without a teacher, with optimizer.lr=0.5" in page.text
    assert "the run that wrote model_0000003.pth, of other weights" in page.text
    config = (student / "config.yaml").read_text().replace("model_0000003.pth", "model_final.pth")
    (student / "config.yaml").write_text(config)
    assert "../teacher, an evaluation of the same checkpoint" in report(student).text


def test_better_weights_than_those_evaluated_last_are_named(tmp_path: Path) -> None:
    folder = made_up_run(tmp_path)
    for steps, named in ((8, False), (4, True)):
        best = {"metric": "bbox/AP", "value": 71.5, "steps": steps}
        (folder / "model_best.json").write_text(json.dumps(best))
        text = report(folder).text
        assert ("take model_best.pth, of 4 steps: bbox/AP 71.5" in text) == named


def test_names_from_the_data_are_text(tmp_path: Path) -> None:
    names = ['<script>alert("1")</script>', "&amp; $x$ 'é' {{ 1 }}"]
    folder = made_up_run(tmp_path, classes=names)
    records = DatasetCatalog.get("drawings_val")
    for index, record in enumerate(records):
        path = Path(record["file_name"])
        record["file_name"] = str(path.rename(path.with_name(f'<i>"{index}"&.png')))
    page = report(folder)
    for name in names:
        assert name in page.text
        assert name not in page.source and html.escape(name, quote=False)[:7] in page.source
    assert any('<i>"' in text for text in page.alternatives)
    again = made_up_run(tmp_path, name='"><b>', classes=names)
    write_comparison([folder, again], tmp_path / "two.html")
    page = Page(tmp_path / "two.html")
    page.check()
    assert names[0] in page.text and '"><b>' in page.text


@pytest.mark.parametrize("trained", [True, False])
def test_run_without_evaluation(tmp_path: Path, trained: bool) -> None:
    page = report(made_up_run(tmp_path, trained=trained, mistakes=None))
    assert "No AP has been measured" in page.text
    assert "there is no inference/coco_instances_results.json" in page.text
    assert ("Sum of the losses" in page.text) == trained


def test_interrupted_run(tmp_path: Path) -> None:
    folder = made_up_run(tmp_path, mistakes=None)
    metrics = folder / "metrics.json"
    metrics.write_text(metrics.read_text()[:-20])
    assert "No AP has been measured after 6 steps" in report(folder).text


def test_no_detections_at_all(tmp_path: Path) -> None:
    folder = made_up_run(tmp_path)
    (folder / "inference/coco_instances_results.json").write_text("[]")
    page = report(folder)
    assert "AP in results.json is" in page.text and "it is 0.00" in page.text
    assert page.alternatives and "F1 over the threshold" in page.text


def test_many_classes_are_shown_by_their_extremes(tmp_path: Path) -> None:
    names = ["red", "green", *(f"class {index}" for index in range(78))]
    page = report(made_up_run(tmp_path, classes=names))
    assert "class 77" in page.text and 'class="matrix"' not in page.source


def test_files_that_another_program_changed_leave_the_rest(tmp_path: Path) -> None:
    folder = made_up_run(tmp_path)
    (folder / "inference/coco_instances_results.json").write_text("[{]")
    (folder / "results.json").write_text('{"bbox": null, "kitti": null}')
    with (folder / "metrics.json").open("a") as file:
        file.write('{"iteration": 9, "loss_class": NaN, "loss_bbox": Infinity, "time": "?"}\n')
    page = report(folder)
    assert "the detections cannot be used (JSONDecodeError" in page.text
    assert "Sum of the losses" in page.text and "nan" not in page.source


def test_test_data_that_are_gone_leave_the_rest(tmp_path: Path) -> None:
    folder = made_up_run(tmp_path)
    DatasetCatalog.remove("drawings_val")
    page = report(folder)
    assert "Classes, thresholds and errors are not shown" in page.text
    assert "AP over steps" in page.text


def test_kittis_own_figures_have_a_table(tmp_path: Path) -> None:
    folder = made_up_run(tmp_path)
    results = json.loads((folder / "results.json").read_text())
    figures = {"AP40-Car-easy": 91.26, "AP40-Car-hard": None, "AP40-easy": 81.25}
    (folder / "results.json").write_text(json.dumps(results | {"kitti": figures}))
    text = report(folder).text
    assert "KITTI's own AP" in text and "AP40 easy" in text and "91.3" in text


def test_comparison_shows_differences_to_the_first_run(tmp_path: Path) -> None:
    first = made_up_run(tmp_path, name="first")
    second = made_up_run(tmp_path, name="second", mistakes=False, overrides=("optimizer.lr=0.5",))
    write_comparison([first, second], tmp_path / "two.html")
    page = Page(tmp_path / "two.html")
    page.check()
    red = [
        json.loads((run / "results.json").read_text())["bbox"]["AP-red"] for run in (first, second)
    ]
    assert f"{red[1] - red[0]:+.1f}" in page.text
    assert "learning rate 0.5" in page.text and "AP over steps" in page.text


def test_gpu_memory_of_the_log_is_converted(tmp_path: Path) -> None:
    folder = made_up_run(tmp_path, mistakes=None)
    (folder / "log.txt").write_text("iter: 19  max_mem: 900M\niter: 39  max_mem: 2000M\n")
    assert "2.10 GB" in report(folder).text  # detectron2's M are 2^20 bytes


def test_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no config.yaml.*Fix: name the train.output_dir"):
        write_report(tmp_path)


def test_failure_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = made_up_run(tmp_path)
    (folder / "report.html").mkdir()  # cannot be replaced
    with caplog.at_level(logging.WARNING):
        try_write_report(folder, read_run(folder).cfg)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no report was written" in caplog.text


def browse(path: Path, width: int) -> tuple[list[str], int]:
    """Returns the console's messages of a page in Chromium, and its width as laid out.

    Windows of Chromium are 500 pixels wide or more, frames in them are not.
    """
    measured = path.with_name("measured.html")
    script = "onload = () => document.title = frames[0].document.documentElement.scrollWidth"
    measured.write_text(
        f'<meta charset="utf-8"><iframe width="{width}" height="900" style="border: 0" '
        f'srcdoc="{html.escape(path.read_text())}"></iframe><script>{script}</script>'
    )
    command = [
        *(shutil.which("chromium") or shutil.which("chromium-browser"), "--headless"),
        *("--no-sandbox", "--disable-gpu", "--disable-quic", "--hide-scrollbars", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--enable-logging=stderr", "--v=0", "--window-size=1280,900", "--dump-dom"),
        *(f"--user-data-dir={path.parent / 'profile'}", measured.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    messages = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return messages, int(re.search(r"<title>(\d+)</title>", done.stdout).group(1))


needs_chromium = pytest.mark.skipif(
    not (shutil.which("chromium") or shutil.which("chromium-browser")), reason="no Chromium"
)


@needs_chromium
def test_printed_tables_are_as_wide_as_the_paper(tmp_path: Path) -> None:
    names = ["Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram"]
    path = write_report(made_up_run(tmp_path, classes=names))
    path.write_text(path.read_text().replace("@media print", "@media screen"))
    assert browse(path, width=718) == ([], 718)  # A4 without its margins, at 96 pixels per inch


@needs_chromium
def test_browser_shows_the_page_without_a_message(tmp_path: Path) -> None:
    path = write_report(made_up_run(tmp_path, classes=["red " * 30, "green"]))
    assert browse(path, width=390) == ([], 390)
    broken = "<div style='width: 600px'>wide</div><script>console.error('broken')</script>"
    path.write_text(path.read_text() + broken)
    messages, width = browse(path, width=390)
    assert len(messages) == 1 and "broken" in messages[0] and width >= 600
