"""Tests datasets/check.py on the data of a config."""

import runpy
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog

from tests.tiny_run import PLAIN, tiny_overrides

main = runpy.run_path(str(Path(__file__).parents[2] / "datasets/check.py"))["main"]


def flip_a_byte(record: dict) -> None:
    path = Path(record["file_name"])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def test_tables_are_printed_and_decoding_finds_what_headers_do_not(tmp_path, capsys) -> None:
    overrides = tiny_overrides(tmp_path)
    assert main(["--config-file", PLAIN, *overrides]) == 0
    out = capsys.readouterr().out
    assert "| training: drawings_train " in out and "| validation: drawings_val " in out
    assert out.endswith("no problems\n")
    flip_a_byte(DatasetCatalog.get("drawings_val")[2])
    assert main(["--config-file", PLAIN, *overrides]) == 0
    assert main(["--config-file", PLAIN, "--decode", *overrides]) == 1
    captured = capsys.readouterr()
    assert "dataloader.test.dataset: unreadable image" in captured.err
    assert captured.out.endswith("1 problems\n")


def test_a_dataset_that_does_not_exist_is_one_line(tmp_path) -> None:
    overrides = tiny_overrides(tmp_path)
    with pytest.raises(SystemExit, match=r"^error: dataloader\.train\.dataset\.names=nowhere is"):
        main(["--config-file", PLAIN, *overrides, "dataloader.train.dataset.names=nowhere"])
