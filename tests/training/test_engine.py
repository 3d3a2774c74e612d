"""The training loop: resumes exactly, splits a batch without changing its loss, stops in sentences."""

import json
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.training.small_run import SETTINGS, Measure, objective, run, source, values

from vidprompt.system.errors import UserError
from vidprompt.system.interruption import Interrupted
from vidprompt.training import snapshots
from vidprompt.training.engine import BatchSource, Validation, _lr_text, new_accelerator
from vidprompt.training.processes import Processes


def steps_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "steps.jsonl").read_text("utf-8").splitlines()]


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


@pytest.mark.parametrize("dies_at", [1, 2, 3, 5])
def test_a_run_that_was_killed_ends_as_one_that_was_not(tmp_path: Path, dies_at: int) -> None:
    chances = {"ema": 0.9, "micro_batches": 2, "select": "best"}
    whole = objective(dropout=0.3)
    scores = {2: 0.5, 4: 0.9, 6: 0.1}

    def validation() -> Validation:
        return Validation(Measure(lambda: scores[len(steps_of(folder)) + 1]))

    folder = tmp_path / "whole"
    expected = run(folder, whole, validation=validation(), **chances)
    folder = tmp_path / "killed"
    with pytest.raises(ConnectionError):
        run(folder, objective(dropout=0.3), validation=validation(), dies_at=dies_at, **chances)
    messages: list[str] = []
    again = objective(dropout=0.3)
    log = run(folder, again, validation=validation(), messages=messages, **chances)
    assert equal(values(again), values(whole))
    assert log.rows == expected.rows
    assert (log.evaluations, log.kept_step) == (expected.evaluations, expected.kept_step)
    assert log.kept_step == 4
    saved = dies_at - dies_at % 2
    assert messages == (
        [f"resuming after step {saved} ({folder}/step-{saved:09d}.safetensors)"] if saved else []
    )
    assert [row["step"] for row in steps_of(folder)] == [1, 2, 3, 4, 5, 6]
    for one, other in zip(steps_of(folder), steps_of(tmp_path / "whole"), strict=True):
        assert {k: one[k] for k in ("loss", "gradient")} == {
            k: other[k] for k in ("loss", "gradient")
        }


@pytest.mark.parametrize("dies_at", [1, 3, 5])
def test_momentum_is_resumed_byte_for_byte(tmp_path: Path, dies_at: int) -> None:
    chosen = {"optimizer": "sgd", "momentum": 0.9, "lr": 0.1}
    whole, plain, again = objective(), objective(), objective()
    expected = run(tmp_path / "whole", whole, **chosen)
    run(tmp_path / "plain", plain, **chosen | {"momentum": 0.0})
    assert not equal(values(whole), values(plain))
    with pytest.raises(ConnectionError):
        run(tmp_path / "killed", objective(), dies_at=dies_at, **chosen)
    assert run(tmp_path / "killed", again, **chosen).rows == expected.rows
    assert equal(values(again), values(whole))


def test_a_finished_run_that_is_kept_is_not_trained_again(tmp_path: Path) -> None:
    first, again = objective(), objective()
    log = run(tmp_path, first, keep_last=True, save_every=4)
    found = run(tmp_path, again, dies_at=0, keep_last=True, save_every=4)
    assert equal(values(again), values(first))
    assert (found.rows, found.done) == (log.rows, 0)
    assert len(steps_of(tmp_path)) == 6


def test_what_was_done_is_not_read_again(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        run(tmp_path, objective(), dies_at=5)
    begun: list[int] = []
    plain = source(SETTINGS, Processes(new_accelerator("no")))

    def batches(start: int):
        begun.append(start)
        return plain.batches(start)

    run(tmp_path, objective(), data=BatchSource(batches, plain.videos))
    assert begun == [4]


def test_the_two_newest_snapshots_are_kept_and_a_damaged_one_gives_way(tmp_path: Path) -> None:
    whole = objective()
    run(tmp_path / "whole", whole, save_every=1)
    with pytest.raises(ConnectionError):
        run(tmp_path, objective(), dies_at=5, save_every=1)
    kept = sorted(p.name for p in tmp_path.glob("step-*.safetensors"))
    assert kept == ["step-000000004.safetensors", "step-000000005.safetensors"]
    newest = tmp_path / kept[1]
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    messages: list[str] = []
    again = objective()
    run(tmp_path, again, messages=messages, save_every=1)
    assert "step-000000005.safetensors is damaged" in messages[0]
    assert messages[1].startswith("resuming after step 4")
    assert equal(values(again), values(whole))


def test_a_snapshot_of_another_configuration_is_set_aside_for_its_own_run(tmp_path: Path) -> None:
    one, other = ({"trainer": {"lr": lr, "ema": 0.0}} for lr in (1.0, 2.0))
    with pytest.raises(ConnectionError):
        run(tmp_path, objective(), dies_at=5, fingerprint=one)
    messages: list[str] = []
    with pytest.raises(ConnectionError):
        run(tmp_path, objective(), messages=messages, dies_at=3, fingerprint=other)
    assert (
        "is of another run (trainer.lr changed): training starts from the beginning" in messages[0]
    )
    assert [row["step"] for row in steps_of(tmp_path)] == [1, 2, 3]
    for fingerprint, step in ((one, 4), (other, 2)):
        messages.clear()
        with pytest.raises(ConnectionError):
            run(tmp_path, objective(), messages=messages, dies_at=step, fingerprint=fingerprint)
        assert messages[0].startswith(f"resuming after step {step} ({tmp_path}/other/step-")


def test_a_snapshot_of_an_older_release_is_set_aside(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        run(tmp_path, objective(), dies_at=3)
    header = tmp_path / "step-000000002.json"
    content = json.loads(header.read_text("utf-8"))
    older = {"about": {"run": 0}, "sha256": content["sha256"], "standing": content["state"]}
    header.write_text(json.dumps(older))
    messages: list[str] = []
    run(tmp_path, objective(), messages=messages)
    assert "is of another run (run changed): training starts from the beginning" in messages[0]
    assert (tmp_path / "other" / header.name).is_file()


def test_a_full_disk_is_a_sentence_and_harms_no_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_tensors: dict, path: Path) -> None:
        if len(list(tmp_path.glob("step-*.json"))):
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save_file(_tensors, path)

    monkeypatch.setattr(snapshots, "save_file", full)
    with pytest.raises(UserError, match=r"No space left.*Last good snapshot: .*step-000000002"):
        run(tmp_path, objective())
    monkeypatch.undo()
    assert sorted(p.name for p in tmp_path.glob("step-*")) == [
        "step-000000002.json",
        "step-000000002.safetensors",
    ]
    messages: list[str] = []
    run(tmp_path, objective(), messages=messages)
    assert messages[0].startswith("resuming after step 2")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_step_and_ends(tmp_path: Path, number: int) -> None:
    whole = objective()
    run(tmp_path / "whole", whole)
    plain = source(SETTINGS, Processes(new_accelerator("no")))

    def batches(start: int):
        for step, batch in enumerate(plain.batches(start), start):
            if step == 3:
                signal.raise_signal(number)
            yield batch

    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match="after step 4 of 6, which is saved") as caught:
        run(tmp_path, objective(), data=BatchSource(batches, plain.videos), save_every=100)
    assert caught.value.exit_code == 128 + number
    assert signal.getsignal(number) is before
    again = objective()
    run(tmp_path, again)
    assert equal(values(again), values(whole))


def test_dropout_draws_alike_in_both_passes_of_a_micro_batch_whatever_is_recomputed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients = {}
    for recompute in ("nothing", "layer"):
        chosen = objective(dropout=0.3)
        chosen.model.recompute = recompute
        monkeypatch.setattr(chosen.model, "_videos_per_chunk", lambda video: len(video))
        run(tmp_path / recompute, chosen, micro_batches=2, steps=1)
        gradients[recompute] = steps_of(tmp_path / recompute)[0]["gradient"]
        monkeypatch.setattr(chosen.model, "_videos_per_chunk", lambda video: 1)
        chosen.cpu().train()
        torch.manual_seed(5)
        with torch.no_grad():
            first = chosen.model.encode_video(torch.ones(3, 2, 3, 32, 32))[1]
        torch.manual_seed(5)
        second = chosen.model.encode_video(torch.ones(3, 2, 3, 32, 32))[1]
        assert torch.equal(first, second)
    assert gradients["layer"] == pytest.approx(gradients["nothing"], rel=1e-5)


@pytest.mark.parametrize("name", ["contrastive_motion", "cross_entropy", "identity"])
def test_micro_batches_have_the_loss_and_the_gradient_of_the_whole_batch(
    tmp_path: Path, name: str
) -> None:
    one, two = objective(name), objective(name)
    run(tmp_path / "one", one)
    run(tmp_path / "two", two, micro_batches=2)
    for a, b in zip(steps_of(tmp_path / "one"), steps_of(tmp_path / "two"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-5)
        assert a["gradient"] == pytest.approx(b["gradient"], rel=1e-4)


def exploding(at: set[int]) -> BatchSource:
    plain = source(SETTINGS, Processes(new_accelerator("no")))

    def batches(start: int):
        for step, (clips, labels) in enumerate(plain.batches(start), start):
            yield (clips.float() * float("nan") if step in at else clips), labels

    return BatchSource(batches, plain.videos)


def test_a_loss_that_is_no_number_names_step_videos_and_snapshot(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        run(tmp_path, objective(), data=exploding({4}))
    messages = str(caught.value)
    assert "the loss of step 5 is not finite" in messages
    assert "video 4-0, video 4-1, video 4-2, video 4-3" in messages
    assert f"{tmp_path}/step-000000004.safetensors" in messages


def test_so_many_such_steps_may_be_left_out_and_change_nothing(tmp_path: Path) -> None:
    chosen = objective()
    log = run(tmp_path, chosen, data=exploding({1, 4}), skip_non_finite=2)
    assert log.skipped == [2, 5]
    assert all(torch.isfinite(value).all() for value in values(chosen).values())
    assert [row["step"] for row in log.rows] == [2, 4, 6]
    with pytest.raises(UserError, match="step 5"):
        run(tmp_path / "fewer", objective(), data=exploding({1, 4}), skip_non_finite=1)


def test_a_step_is_chosen_by_held_out_videos_alone(tmp_path: Path) -> None:
    held, test = iter([0.2, 0.6, 0.4]), iter([0.9, 0.1, 0.8])
    chosen, short = objective(), objective()
    validation = Validation(Measure(lambda: next(held)), {"base": Measure(lambda: next(test))})
    log = run(tmp_path / "best", chosen, validation=validation, select="best")
    assert log.kept_step == 4
    assert [one["test/base"] for one in log.evaluations] == [0.9, 0.1, 0.8]
    with pytest.raises(ConnectionError):
        run(tmp_path / "four", short, dies_at=4)
    assert equal(values(chosen), values(short))
    with pytest.raises(UserError, match="needs held-out videos"):
        run(
            tmp_path / "none",
            objective(),
            select="best",
            validation=Validation(None, {"base": Measure(lambda: 1.0)}),
        )


def test_what_is_kept_is_the_running_mean_or_a_mix_with_the_start(tmp_path: Path) -> None:
    start, trained, mixed, none = (objective() for _ in range(4))
    run(tmp_path / "trained", trained)
    run(tmp_path / "mixed", mixed, wise_ft=0.25)
    run(tmp_path / "none", none, wise_ft=0.0)
    first, last, between = values(start), values(trained), values(mixed)
    for name in first:
        assert torch.allclose(between[name], first[name] + 0.25 * (last[name] - first[name]))
    assert equal(values(none), first)


def test_the_running_mean_follows_its_formula(tmp_path: Path) -> None:
    start, mean, one, two = (objective() for _ in range(4))
    run(tmp_path / "mean", mean, ema=0.5, steps=2, save_every=9)
    with pytest.raises(ConnectionError):
        run(tmp_path / "one", one, dies_at=1, steps=2, save_every=9)
    run(tmp_path / "two", two, steps=2, save_every=9)
    decays = [2 / 11, 3 / 12]  # (1 + step) / (10 + step), below 0.5 both times
    for name, value in values(mean).items():
        expected = values(start)[name]
        for decay, after in zip(decays, (values(one)[name], values(two)[name]), strict=True):
            expected = decay * expected + (1 - decay) * after
        assert torch.allclose(value, expected, atol=1e-7)


def test_bf16_trains_with_the_loss_in_float32(tmp_path: Path) -> None:
    log = run(tmp_path, objective(), precision="bf16")
    full = run(tmp_path / "full", objective())
    assert log.rows[0]["loss"] == pytest.approx(full.rows[0]["loss"], rel=0.05)
    assert log.rows[0]["loss"] != full.rows[0]["loss"]


def test_every_group_has_its_learning_rate_in_the_log(tmp_path: Path) -> None:
    log = run(tmp_path, objective(), lr_scale={"prompts": 3.0, "vision_adapters": 0.5})
    steps = steps_of(tmp_path)
    for row in steps:
        assert row["lr/weights"] == row["lr/biases"] == row["lr"]
        assert row["lr/prompts"] == pytest.approx(3 * row["lr"])
        assert row["lr/vision_adapters"] == pytest.approx(0.5 * row["lr"])
    assert [row["lr"] for row in log.rows] == [
        pytest.approx(row["lr"]) for row in steps if row["step"] in (2, 4, 6)
    ]
    assert all("lr/prompts" not in row for row in log.rows)  # results/…/loss.csv has the base rate


def test_the_progress_line_names_groups_only_where_rates_differ() -> None:
    same = {"loss": 1.0, "lr": 0.006, "lr/weights": 0.006, "lr/prompts": 0.006}
    assert _lr_text(same) == "lr 6.0e-03"
    text = _lr_text(same | {"lr/prompts": 0.018, "lr/context": 0.018})
    assert text == "lr 6.0e-03 (weights) 1.8e-02 (prompts, context)"
