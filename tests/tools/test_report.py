"""Tests the command line of `tools/report.py`."""

from pathlib import Path

import pytest
import report

from tests.report.made_up_run import made_up_run
from tests.tiny_run import PLAIN


def refused(*arguments: object) -> str:
    with pytest.raises(SystemExit) as caught:
        report.main(list(map(str, arguments)))
    return str(caught.value)


def test_one_run_has_a_report_and_several_a_comparison(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [made_up_run(tmp_path, PLAIN, name, mistakes=None) for name in ("a", "b")]
    monkeypatch.chdir(tmp_path)
    report.main([str(runs[0])])
    report.main(["a", "b"])
    report.main(["a", "b", "--output", "new/page.html"])
    written = [str(runs[0] / "report.html"), "comparison.html", "new/page.html"]
    assert capsys.readouterr().out.splitlines() == written
    assert all(Path(path).is_file() for path in written)
    assert "named twice" in refused("a", runs[0])
    assert "new is a folder. Fix: name a file, as new/report.html" in refused(
        "a", "--output", "new"
    )
    assert "nowhere is not a folder" in refused("a", "nowhere")
