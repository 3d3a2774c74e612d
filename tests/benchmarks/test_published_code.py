"""The benchmark beside the published code: what is no checkout, stored runs, and intervals over seeds."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import open_clip
import pytest
import torch
from benchmarks.published_code import SEEDS, main, planned, results, stored_result
from benchmarks.side_by_side import runs
from benchmarks.side_by_side.checkouts import (
    REPOSITORIES,
    STAND_INS,
    Attributes,
    check_checkout,
    checkout_version,
)
from benchmarks.side_by_side.setting import (
    CONTEXT,
    OWN,
    SETTINGS,
    Demo,
    dimensions,
    published_values,
)
from benchmarks.side_by_side.summary import compare, difference, picture, table
from tests.models.small import small_backbone
from tests.reference import published_models as published

from vidprompt.data.splits.split_file import Subset
from vidprompt.models import create_model
from vidprompt.models.backbones.loading import Backbone, from_clip
from vidprompt.models.backbones.open_clip_towers import eot_positions
from vidprompt.models.factory import configured_model
from vidprompt.system.errors import UserError


def checkout(folder: Path, method: str) -> Path:
    for name in REPOSITORIES[method].files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    return folder


def git(folder: Path, *command: str) -> str:
    own = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(
        ["git", "-C", str(folder), *own, *command], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_a_folder_that_is_no_checkout_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="--ez-clip .* is no checkout of .*EZ-CLIP: it has no clip"):
        check_checkout("ez_clip", tmp_path)
    other = checkout(tmp_path / "vita", "vita_clip")
    with pytest.raises(UserError, match="is no checkout"):  # of the other repository
        check_checkout("ez_clip", other)
    assert check_checkout("vita_clip", other) == other
    monkeypatch.setattr(sys, "argv", ["published_code.py", "--ez-clip", str(tmp_path)])
    with pytest.raises(SystemExit, match="^published_code: --ez-clip .* is no checkout .*py$"):
        main()
    monkeypatch.setattr(sys, "argv", ["published_code.py"])
    with pytest.raises(SystemExit, match="give at least one checkout"):
        main()


def test_a_checkout_is_named_by_its_commit_and_changes_show(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "vita", "vita_clip")
    git(tmp_path, "init", "-q")  # a repository around it is another one's
    with pytest.raises(UserError, match="does not know the commit"):
        checkout_version("vita_clip", folder)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "x")
    commit = git(folder, "rev-parse", "HEAD")
    assert checkout_version("vita_clip", folder)["commit"] == commit
    (folder / "training/VitaCLIP_model.py").write_text("changed")
    assert checkout_version("vita_clip", folder)["commit"] == f"{commit}-dirty"


@pytest.mark.parametrize("method", ["ez_clip", "vita_clip"])
def test_texts_padded_to_the_published_length_keep_their_features(method: str) -> None:
    model = create_model(method, small_backbone(), num_frames=2, class_names=["a", "b"])
    values = published_values(model)
    prefix = "" if method == "ez_clip" else "textual."
    positions = values[f"{prefix}positional_embedding"]
    assert len(positions) == CONTEXT
    length = int(model.clip.context_length)
    assert torch.equal(positions[:length], model.clip.positional_embedding)
    tokens = model.backbone.tokenizer(["a cat on a mat"])
    longer = torch.nn.functional.pad(tokens, (0, CONTEXT - length))
    assert torch.equal(eot_positions(longer), eot_positions(tokens))
    assert dimensions(model.backbone)["heads"] == model.vision_blocks[0].heads


CLASSES = ["CrescentGrowing", "HeartMovingLeft", "StarShrinking"]
WORDS = ("crescent growing", "heart moving left", "star shrinking")  # what the published code gets


def plain_backbone() -> Backbone:
    """Heads of width 64 and QuickGELU, as fixed in the published code."""
    torch.manual_seed(0)
    vision = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16}
    text = {"context_length": 32, "width": 64, "heads": 1, "layers": 2}
    return from_clip(open_clip.CLIP(32, vision, text, quick_gelu=True), "small", "")


class SmallDemo(Demo):
    """30 clips of noise of the three classes."""

    def centre_clips(self) -> torch.Tensor:
        generator = torch.Generator().manual_seed(1)
        return torch.randint(256, (30, 8, 3, 32, 32), generator=generator, dtype=torch.uint8)


class Plain:
    """In place of a checkout: the tests' second computation of its model and loss, without training."""

    def __init__(self, *given: Any, chance: bool = False) -> None:
        self.demo, self.values = given[2], given[4] if len(given) > 4 else {}

    def load(self, values: dict[str, torch.Tensor], *, trained: bool = True) -> None:
        self.values = values

    def texts(self, templates: int | None = None) -> list[str]:
        return [f"a photo of action {name}" for name in WORDS]

    def tokens(self, templates: int | None = None) -> torch.Tensor:
        return open_clip.get_tokenizer("ViT-B-32")(self.texts(), CONTEXT)[:, None]


class PlainEZCLIP(Plain):
    def train(self, loader: Any, texts: Any, *, half: bool = False) -> list[dict[str, float]]:
        clips, labels = next(iter(loader))
        tokens = self.tokens()[:, 0][labels]
        frames = published.ez_clip_video(self.values, clips.unflatten(1, (8, 3)))
        embedded = self.values["token_embedding.weight"][tokens]
        text = published.encode_text(self.values, "", embedded, eot_positions(tokens))
        video, text = (
            features / features.norm(dim=-1, keepdim=True) for features in (frames.mean(1), text)
        )
        logits = self.values["logit_scale"].exp() * video @ text.T
        target = (10.0 * (labels[:, None] == labels[None])).softmax(1)
        both = [
            (target * (target.log() - one.log_softmax(1))).sum(1).mean()
            for one in (logits, logits.T)
        ]
        after, before = (
            torch.cat(part, 1)
            for part in ((frames[:, 1:], frames[:, -1:]), (frames[:, :1], frames[:, :-1]))
        )
        motion = 1 / (((after - before) / 2).abs().mean() + frames.var(1).mean() + 1)
        return [{"loss": float(sum(both) / 2 + motion), "lr": 0.0}]


class PlainVitaCLIP(Plain):
    def texts(self, templates: int | None = None) -> list[str]:
        return [f"{'X ' * 8}{name}." for name in WORDS]

    def tokens(self, templates: int | None = None) -> torch.Tensor:
        tokens = super().tokens()
        tokens[..., 1:9] = 0
        return tokens

    def train(self, loader: Any, steps: int) -> list[dict[str, float]]:
        tokens = super().tokens()[:, 0]
        embedded = self.values["textual.token_embedding.weight"][tokens]
        own = {
            "prompt_learner.token_prefix": embedded[:, :1],
            "prompt_learner.token_suffix": embedded[:, 9:],
        }
        text = published.vita_clip_text(self.values | own, eot_positions(tokens))
        clips, labels = loader[0]
        video = published.vita_clip_video(self.values, clips.transpose(1, 2))
        video, text = (one / one.norm(dim=-1, keepdim=True) for one in (video, text))
        logits = self.values["logit_scale"].exp() * video @ text.T
        loss = torch.nn.functional.cross_entropy(logits, labels)
        return [{"loss": float(loss), "lr": SETTINGS["vita_clip"].lr}]


@pytest.fixture
def small_demo(monkeypatch: pytest.MonkeyPatch) -> SmallDemo:
    """The benchmark's run without chance, of one step, on noise and beside the plain computation."""
    train = Subset(CLASSES, [f"{i}.mp4" for i in range(30)], [i % 3 for i in range(30)])
    demo = SmallDemo(SimpleNamespace(train=train))  # type: ignore[arg-type]
    backbone = plain_backbone()
    monkeypatch.setattr(runs, "EPOCH", 1)
    monkeypatch.setattr(runs, "EPOCHS", 1)
    monkeypatch.setattr(Demo, "read", lambda method: demo)
    monkeypatch.setattr(runs, "PublishedEZCLIP", PlainEZCLIP)
    monkeypatch.setattr(runs, "PublishedVitaCLIP", PlainVitaCLIP)
    monkeypatch.setattr(
        runs, "our_model", lambda config, demo: configured_model(config, CLASSES, backbone)
    )
    return demo


@pytest.mark.parametrize("method", ["ez_clip", "vita_clip"])
def test_without_chance_ours_has_the_loss_of_a_plain_computation(
    method: str, small_demo: SmallDemo, tmp_path: Path
) -> None:
    found = runs.without_chance(method, tmp_path)
    assert found["largest difference of a loss"] < 1e-4
    assert found["largest difference of a rate"] < 1e-9
    assert found["ours"][0] > 0.1  # of three classes: something is to be learnt


@pytest.mark.parametrize("method", ["ez_clip", "vita_clip"])
def test_other_texts_in_the_two_codes_are_refused(
    method: str, small_demo: SmallDemo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    option = "prompts" if method == "ez_clip" else "method.options"
    own = (*OWN[method], f"{option}.clean_names=false")
    monkeypatch.setitem(OWN, method, own)
    with pytest.raises(UserError, match="'CrescentGrowing': ours has the tokens .* the published"):
        runs.without_chance(method, tmp_path)


def test_chance_that_is_left_in_ours_is_refused(
    small_demo: SmallDemo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(runs.WITHOUT_CHANCE, "ez_clip", runs.WITHOUT_CHANCE["ez_clip"][:2])
    assert "text_stochastic_depth" not in str(runs.WITHOUT_CHANCE["ez_clip"])
    runs.without_chance("ez_clip", tmp_path)  # null: as in the vision tower, 0
    monkeypatch.setitem(runs.WITHOUT_CHANCE, "ez_clip", runs.WITHOUT_CHANCE["ez_clip"][1:])
    with pytest.raises(UserError, match="the same batch has the losses .* WITHOUT_CHANCE"):
        runs.without_chance("ez_clip", tmp_path)


def test_both_codes_get_the_same_numbers() -> None:
    setting = SETTINGS["ez_clip"]
    overrides = dict(one.split("=", 1) for one in setting.overrides(1000, seed=2))
    assert int(overrides["trainer.length"]) == setting.steps(1000)
    assert float(overrides["trainer.lr"]) == setting.lr
    assert int(overrides["trainer.warmup"]) == setting.warmup * (1000 // setting.batch)


def test_a_stored_run_is_used_for_the_same_fingerprint_only(tmp_path: Path) -> None:
    run = planned(["ez_clip"], quick=False)[1]
    versions = {"ez_clip": {"commit": "a"}}
    fingerprint = run.fingerprint(versions)
    file = run.file(tmp_path)
    file.parent.mkdir()
    file.write_text(json.dumps({"fingerprint": fingerprint, "result": {"top1": 0.5}}))
    assert stored_result(file, fingerprint) == {"top1": 0.5}
    assert stored_result(file, run.fingerprint({"ez_clip": {"commit": "b"}})) is None
    assert stored_result(tmp_path / "none.json", fingerprint) is None


def run_result(top1: float, loss: float) -> dict[str, Any]:
    right = [1] * round(top1 * 100) + [0] * round((1 - top1) * 100)
    times = {"step_ms": 10.0, "data_ms": 1.0, "peak_gb": 1.0}
    return {"loss": [4.0] * 50 + [loss] * 50, "right": right, "top1": top1, "object": 0.9, **times}


def test_trainings_are_the_same_only_where_zero_is_in_all_intervals() -> None:
    near = {1: run_result(0.50, 2.0), 2: run_result(0.54, 2.1), 3: run_result(0.52, 2.2)}
    same = compare({"published": near, "ours": {k + 1: v for k, v in near.items()}})
    assert same["same"] is True
    far = {1: run_result(0.50, 3.0), 2: run_result(0.54, 3.1), 3: run_result(0.52, 3.2)}
    other = compare({"published": near, "ours": far})
    assert other["same"] is False
    low, high = other["ours - published"]["last fifth's loss"]["ci95"]
    assert low < 1.0 < high
    assert low > 0
    assert other["ours"]["top1"]["mean"] == pytest.approx(0.52)
    one = compare({"published": {1: near[1]}, "ours": {1: far[1]}})
    assert one["same"] is None  # a single seed says nothing of chance


def test_the_interval_of_a_difference_is_welchs() -> None:
    # means 0.6 and 0.5, variances 0.01 of three each: half width = t(0.975, 4) * sqrt(2 * 0.01 / 3)
    found = difference([0.5, 0.6, 0.7], [0.4, 0.5, 0.6])
    half = 2.7764 * (2 * 0.01 / 3) ** 0.5
    assert found["ci95"] == pytest.approx([0.1 - half, 0.1 + half], abs=2e-4)
    assert difference([0.5, 0.5], [0.5, 0.5])["ci95"] == [0, 0]


def test_results_name_checkouts_stand_ins_and_every_method() -> None:
    runs = planned(["vita_clip"], quick=False)
    found = {
        run.name: run_result(0.5, 2.0)
        if run.code != "without_chance"
        else {"largest difference of a loss": 1e-6}
        for run in runs
    }
    versions = {"vita_clip": {"repository": "r", "commit": "c"}}
    result = results(runs, found, versions)
    assert result["checkouts"] == versions
    assert result["stand-ins"] == {"vita_clip": STAND_INS["vita_clip"]}
    assert len(result["training"]["vita_clip"]["ours"]["curves"]) == SEEDS["vita_clip"]
    assert table(result).count("Vita-CLIP") == 3
    assert picture(result["training"]).startswith(b"\x89PNG")


def test_attributes_reach_nested_values_and_miss_nothing() -> None:
    config = Attributes({"prompt": {"use": True}})
    assert config.prompt.use is True
    assert not config.network.fix_text
