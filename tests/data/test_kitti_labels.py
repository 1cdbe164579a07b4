import pytest

from projects.clockdistill.data.kitti_labels import (
    KittiObject,
    parse_label_file,
    parse_label_line,
)

CAR = "Car 0.25 1 -1.57 100.00 50.50 200.00 120.00 1.50 1.60 4.00 1.00 1.60 20.00 -1.52"
DONT_CARE = "DontCare -1 -1 -10 503.89 169.71 590.61 190.13 -1 -1 -1 -1000 -1000 -1000 -10"


def test_reads_every_field():
    assert parse_label_line(CAR) == KittiObject(
        type="Car",
        truncated=0.25,
        occluded=1,
        alpha=-1.57,
        box_xyxy=(100.0, 50.5, 200.0, 120.0),
        size_hwl=(1.5, 1.6, 4.0),
        location_xyz=(1.0, 1.6, 20.0),
        rotation_y=-1.52,
    )


@pytest.mark.parametrize("line", [CAR, DONT_CARE])
def test_a_line_is_written_as_it_was_read(line):
    assert parse_label_line(line).as_line() == line


def test_zeros_as_3d_fields_are_accepted():
    zeros = " ".join(["0"] * 7)
    assert parse_label_line(f"Car 0 0.0 0 1 2 3 4 {zeros}").occluded == 0


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (1, "car", "write 'Car'"),
        (1, "Bicycle", "use one of Car"),
        (1, "Person sitting", r"\(type\) is 'Person sitting': .*write 'Person_sitting'"),
        (1, "Dont Care", "write 'DontCare'"),
        (1, "a police car", "use one of Car"),
        (2, "1.5", r"field 2 \(truncated\) is '1.5'"),
        (2, "half", r"field 2 \(truncated\) is 'half': not a number"),
        (3, "4", r"field 3 \(occluded\) is '4'"),
        (3, "0.5", r"field 3 \(occluded\) is '0.5'"),
        (5, "nan", r"field 5 \(left\) is 'nan'"),
        (6, "inf", r"field 6 \(top\) is 'inf'"),
        (7, "1_000", r"field 7 \(right\) is '1_000': not a number"),
        (8, "1e99", r"field 8 \(bottom\) is '1e99': too large"),
        (7, "100.00", r"field 7 \(right\).*above left = 100.00"),
        (8, "50.50", r"field 8 \(bottom\).*above top = 50.50"),
        (15, "x", r"field 15 \(rotation_y\) is 'x'"),
    ],
)
def test_an_invalid_field_is_named_with_its_fix(field, value, message):
    fields = CAR.split()
    fields[field - 1] = value
    with pytest.raises(ValueError, match=message) as raised:
        parse_label_line(" ".join(fields))
    assert "Fix:" in str(raised.value)


def test_a_line_with_a_score_is_rejected():
    with pytest.raises(ValueError, match="16 fields, expected 15.*score"):
        parse_label_line(CAR + " 0.9")


def test_bad_lines_are_named_and_good_ones_read(tmp_path):
    path = tmp_path / "000007.txt"
    path.write_text(f"{CAR}\n\nCar 0 0\n{DONT_CARE}\n{CAR.replace('Car', 'car')}\n")
    objects, problems = parse_label_file(path)
    assert [item.type for item in objects] == ["Car", "DontCare"]
    assert [problem.split(": ")[0] for problem in problems] == [f"{path}:3", f"{path}:5"]


def test_a_byte_order_mark_is_skipped(tmp_path):
    path = tmp_path / "000000.txt"
    path.write_text(CAR, encoding="utf-8-sig")
    objects, problems = parse_label_file(path)
    assert [item.type for item in objects] == ["Car"] and not problems


def test_a_binary_file_is_named(tmp_path):
    path = tmp_path / "000001.txt"
    path.write_bytes(b"\x89PNG\xff")
    objects, problems = parse_label_file(path)
    assert objects == [] and f"{path}: not a text file" in problems[0]
