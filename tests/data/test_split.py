import hashlib
import random

import pytest

from projects.clockdistill.data.split import split_by_files, split_by_seed

KITTI_FRAMES = [f"{index:06d}" for index in range(7481)]


def test_kitti_splits_into_5985_and_1496_frames():
    split = split_by_seed(KITTI_FRAMES)
    assert (len(split["train"]), len(split["val"])) == (5985, 1496)
    assert sorted(split["train"] + split["val"]) == KITTI_FRAMES


def test_the_split_never_changes():
    # Results on `kitti_val` must stay comparable. The digest was recorded when the rule (order by
    # SHA-256 of "seed:frame") was written.
    text = "\n".join(split_by_seed(KITTI_FRAMES)["val"])
    assert (
        hashlib.sha256(text.encode()).hexdigest()
        == "63815bbd794ad04b2aaa366888ff07db4e8f8746e8ac20e81a0f46cf90246b9b"
    )


def test_the_split_does_not_depend_on_the_order_of_files():
    shuffled = random.Random(1).sample(KITTI_FRAMES, len(KITTI_FRAMES))
    assert split_by_seed(shuffled) == split_by_seed(KITTI_FRAMES)


def test_another_seed_gives_another_split():
    assert split_by_seed(KITTI_FRAMES, seed=1)["val"] != split_by_seed(KITTI_FRAMES)["val"]


@pytest.mark.parametrize(("count", "train", "val"), [(1, 1, 0), (2, 1, 1), (3, 2, 1), (10, 8, 2)])
def test_small_datasets_keep_a_frame_for_validation(count, train, val):
    split = split_by_seed(KITTI_FRAMES[:count])
    assert (len(split["train"]), len(split["val"])) == (train, val)


@pytest.fixture
def files(tmp_path):
    def write(train: str, val: str):
        (tmp_path / "train.txt").write_text(train)
        (tmp_path / "val.txt").write_text(val)
        return tmp_path / "train.txt", tmp_path / "val.txt"

    return write


def test_split_files_are_used_unchanged(files):
    split = split_by_files(KITTI_FRAMES, *files("000003\n000001\n", "\n000002\n"))
    assert split == {"train": ["000003", "000001"], "val": ["000002"]}


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        ("000001\n9\n", "000002", r"train\.txt:2: unknown frame '9'"),
        ("000001\n\n000001", "000002", r"train\.txt:3: frame '000001' is already in line 1"),
        ("000001", "000001", r"share 1 frames, e\.g\. 000001"),
        ("", "000001", r"train\.txt: no frames"),
    ],
)
def test_a_wrong_split_file_is_named(files, train, val, message):
    with pytest.raises(ValueError, match=message):
        split_by_files(KITTI_FRAMES, *files(train, val))


def test_split_files_with_a_byte_order_mark_are_read(files):
    split = split_by_files(KITTI_FRAMES, *files("\ufeff000003\n", "\ufeff000002\n"))
    assert split == {"train": ["000003"], "val": ["000002"]}


def test_a_missing_split_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.txt.*Fix: .*CLOCKDISTILL_KITTI_SPLIT"):
        split_by_files(KITTI_FRAMES, tmp_path / "absent.txt", tmp_path / "absent.txt")
