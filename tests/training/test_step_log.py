"""The step log: a line a step, none twice, and TensorBoard's files beside it."""

import json
from pathlib import Path

from vidprompt.training.step_log import StepLog


def test_steps_behind_the_snapshot_and_half_lines_are_dropped(tmp_path: Path) -> None:
    with StepLog(tmp_path, 0, tensorboard=False) as log:
        for step in (1, 2, 3):
            log.write({"step": step, "loss": 1.0 / step})
    path = tmp_path / "steps.jsonl"
    path.write_text(path.read_text("utf-8") + '{"step": 4, "lo')
    with StepLog(tmp_path, 2, tensorboard=False) as log:
        log.write({"step": 3, "loss": float("nan")})
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert rows[1]["loss"] == 0.5
    assert rows[2]["loss"] is None


def test_tensorboard_reads_what_was_logged(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with StepLog(tmp_path, 0, tensorboard=True) as log:
        for step in (1, 2):
            log.write({"step": step, "loss": float(step)})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 1.0), (2, 2.0)]
