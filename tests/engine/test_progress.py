"""Steps and seconds from what a run has logged."""

import json

from projects.clockdistill.engine.progress import steps_done, training_seconds


def log(folder, *lines):
    (folder / "metrics.json").write_text(
        "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    )


def test_nothing_logged_is_no_time(tmp_path):
    assert steps_done(tmp_path) == 0
    assert training_seconds(tmp_path) is None


def test_each_line_stands_for_the_steps_since_the_last(tmp_path):
    # 20 steps of 0.5 s, 10 of 0.2 s; the line of an evaluation has no time
    log(tmp_path, {"iteration": 19, "time": 0.5}, {"iteration": 29, "bbox/AP": 3.0})
    assert training_seconds(tmp_path) == 10.0
    log(tmp_path, {"iteration": 19, "time": 0.5}, {"iteration": 29, "time": 0.2})
    assert training_seconds(tmp_path) == 12.0
    assert steps_done(tmp_path) == 30


def test_steps_done_twice_count_once_and_a_torn_line_not_at_all(tmp_path):
    # stopped after 60 steps, resumed at 20: 20 steps of 0.5 s, 40 of 0.1 s
    before = [{"iteration": step, "time": 0.5} for step in (19, 39, 59)]
    after = [{"iteration": step, "time": 0.1} for step in (39, 59)]
    log(tmp_path, *before, '{"itera\n', *after, '{"iteration": 7')
    assert training_seconds(tmp_path) == 14.0
    assert steps_done(tmp_path) == 60
