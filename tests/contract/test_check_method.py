"""The contract of methods: ours hold it, and each check finds a method that is broken in its way."""

from __future__ import annotations

import pytest
from tests.contract import broken
from typer.testing import CliRunner

from vidprompt.cli.main import app
from vidprompt.config.names import FLOOR
from vidprompt.contract import CheckResult, check_method
from vidprompt.contract.method import CHECKS
from vidprompt.models.factory import METHODS, method_options
from vidprompt.system.errors import UserError

EXPORTS = ("torch.export", "ONNX")  # seconds each
QUICK = [name for name in CHECKS if name not in EXPORTS]


def failures(found: list[CheckResult]) -> dict[str, str]:
    return {one.name: one.reason for one in found if one.failed}


FAST = ("frozen_clip", "ez_clip")
OURS = [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in METHODS.own]


@pytest.mark.parametrize("method", OURS)
def test_our_methods_hold_the_contract(method: str) -> None:
    found = check_method(method, only=QUICK)
    assert not failures(found)
    assert [one.name for one in found] == QUICK


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS.own)
def test_our_methods_are_exported(method: str) -> None:
    found = check_method(method, only=EXPORTS)
    assert not failures(found)


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["last_n", "all", "lora"])
@pytest.mark.parametrize(
    "method",
    [n for n in METHODS.own if n != FLOOR and "train_backbone" in method_options(n)],
)
def test_our_methods_hold_it_with_a_trained_backbone(method: str, choice: str) -> None:
    assert not failures(check_method(method, only=QUICK, train_backbone=choice, trained_blocks=1))


def test_a_sound_method_that_is_not_registered() -> None:
    assert not failures(check_method(broken.Sound, only=QUICK))


@pytest.mark.parametrize(
    ("check", "method", "says"),
    [
        ("shapes", broken.OtherMean, "not the mean of its frames' features"),
        ("shapes", broken.LogitsOfItsOwn, "forward is not `logits` of the features"),
        ("shapes", broken.WrongWidth, "RuntimeError"),
        ("gradients", broken.Unreached, "no gradient reaches model.unused"),
        ("gradients", broken.Multiplied, "the gradient of model.dead is 0"),
        ("backbone unchanged", broken.TrainsTheShared, "the backbone that was given has changed"),
        ("start", broken.OtherStart, "or say in the class attribute `start`"),
        ("determinism", broken.Unseeded, "two trainings with one seed differ in factor"),
        ("determinism", broken.DropsInEvaluation, "two passes in evaluation mode differ"),
        ("state round trip", broken.StateElsewhere, "is no parameter or buffer"),
        ("other lengths", broken.FixedLength, "raise UserError with what to do"),
        ("meta device", broken.LooksAtValues, "on the meta device raises"),
        ("recompute", broken.OwnDraws, "recompute=layer gives other gradients"),
        pytest.param("torch.export", broken.BranchesOnValues, "may not branch", marks=pytest.mark.slow),
        pytest.param("ONNX", broken.BranchesOnValues, "writing ONNX raises", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_each_check_finds_what_is_broken_in_its_way(
    check: str, method: type[broken.Sound], says: str
) -> None:
    found = failures(check_method(method, only=[check]))
    assert says in found[check]


def test_the_broken_methods_break_nothing_else() -> None:
    """A check that fails for another reason would say the wrong thing."""
    assert set(failures(check_method(broken.FixedLength, only=QUICK))) == {"other lengths"}


def test_a_stated_start_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broken.OtherStart, "start", "factors from -1 to 1", raising=False)
    (found,) = check_method(broken.OtherStart, only=["start"])
    assert (found.status, found.reason) == ("passed", "factors from -1 to 1")


def test_the_command_prints_a_line_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {name: CHECKS[name] for name in ("shapes", "gradients", "start")}
    monkeypatch.setattr("vidprompt.contract.method.CHECKS", kept)
    found = CliRunner().invoke(app, ["check-method", "frozen_clip"])
    assert found.exit_code == 0, found.output
    lines = found.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["passed", "not applicable", "passed"]
    assert "nothing is trained" in lines[1]
    monkeypatch.setitem(METHODS.own, "broken", broken.OtherStart)
    found = CliRunner().invoke(app, ["check-method", "broken"])
    assert found.exit_code in (1, 2)


def test_unknown_names() -> None:
    with pytest.raises(UserError, match="method=ez_clp: did you mean ez_clip"):
        check_method("ez_clp")
    with pytest.raises(UserError, match="check=shape: did you mean shapes"):
        check_method("ez_clip", only=["shape"])
    with pytest.raises(UserError, match="ez_clip does not take prompt: "):
        check_method("ez_clip", only=["shapes"], prompt=1)
