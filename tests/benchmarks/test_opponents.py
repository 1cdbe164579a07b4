"""Without an opponent a run ends with what to do."""

import sys

import pytest

from benchmarks import run
from benchmarks.opponents import transformers


@pytest.mark.parametrize(
    ("against", "module", "mend"),
    [
        ("detrex", "detrex", "PYTHONPATH=<a checkout of github.com/IDEA-Research/detrex>"),
        ("transformers", "transformers", r"pip install -e '.\[bench\]'"),
        ("self", "pycocotools", r"pip install -e '.\[bench\]'"),
    ],
)
def test_a_missing_opponent(monkeypatch, against, module, mend):
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    with pytest.raises(SystemExit, match=f"run: .*{module}.*{mend}"):
        run.main(["--against", against])


def test_an_old_transformers(monkeypatch):
    old = type(sys)("transformers")
    old.__version__ = "4.57.1"
    monkeypatch.setitem(sys.modules, "transformers", old)
    with pytest.raises(ImportError, match="4.57.1 is too old: pip install 'transformers>=5'"):
        transformers.check_importable()
