"""A model is pushed to a Hub, and loaded on a machine that has nothing else of it."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard, constants
from tests.hub.fake_hub import TOKEN, Hub
from tests.hub.hub_project import RUN, TRAINING, make_project
from tests.prediction.small_checkpoint import SIZE, WEIGHTS, T
from typer.testing import CliRunner

import vidprompt
from vidprompt.cli.main import app
from vidprompt.hub.publication import find_publication
from vidprompt.hub.push import Pushed, contents, push
from vidprompt.prediction.sources import PROJECT_VARIABLE
from vidprompt.system.errors import TransientError, UserError

REPO = "me/small"
PUSHED = {
    ".gitattributes", "README.md", "backbone/tiny.safetensors", "model.safetensors", "vidprompt.json",
}  # fmt: skip
Push = Callable[..., Pushed]


@pytest.fixture(scope="module")
def made_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hub") / "project"
    make_project(root)
    return root


@pytest.fixture
def project(made_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """It is stood in; this machine's files are in it and nowhere else."""
    root = tmp_path / "project"
    shutil.copytree(made_project, root)
    monkeypatch.delenv(PROJECT_VARIABLE, raising=False)
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def pushed(project: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Push:
    """Pushes RUN to REPO; the card is without its configuration, which takes a while."""
    monkeypatch.setattr("vidprompt.hub.card.configuration_section", lambda model, revision: "")

    def do(repo: str = REPO, model: str = RUN, licence: str = "", **options: object) -> Pushed:
        return push(contents(find_publication(model), repo, licence), repo, **options)  # type: ignore[arg-type]

    return do


def embedding(model: str) -> np.ndarray:
    clips = torch.arange(T * 3 * SIZE * SIZE).reshape(1, T, 3, SIZE, SIZE) % 255
    return vidprompt.load(model, "cpu").encode(clips)


def test_a_pushed_model_is_loaded_elsewhere_and_then_without_a_network(
    pushed: Push, hub: Hub, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = embedding(RUN)
    done = pushed(private=True)
    repo = hub.repos[REPO]
    commit = repo.branches["main"]
    assert repo.private
    assert set(repo.commits[commit]) == PUSHED
    assert done == Pushed(f"{hub.url}/{REPO}/tree/{commit}", f"hf://{REPO}@{commit}")
    shutil.rmtree(project)
    monkeypatch.chdir(tmp_path)
    for address in (f"hf://{REPO}", f"hf://{REPO}@main", done.address):
        assert np.array_equal(embedding(address), expected)
    model = vidprompt.load(f"hf://{REPO}", "cpu")
    assert model.name == done.address  # the branch may move
    assert dict(model.source.about) == {"hub": REPO, "revision": commit}
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.log)
    assert np.array_equal(embedding(f"hf://{REPO}"), expected)
    assert len(hub.log) == asked


def test_the_card_has_the_hub_s_metadata_and_these_weights_results(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = contents(find_publication(RUN), REPO).texts["README.md"].decode()
    card = ModelCard(text)
    data = card.data.to_dict()
    assert (data["license"], data["library_name"]) == ("mit", "vidprompt")
    assert (data["pipeline_tag"], data["datasets"]) == ("video-classification", ["demo"])
    assert "ez_clip" in data["tags"]
    (index,) = data["model-index"]
    assert index["name"] == RUN
    found = {one["dataset"]["config"]: one for one in index["results"]}
    assert set(found) == {"supervised", "zero_shot/list_a"}  # others are of other weights
    own = found["supervised"]
    assert own["task"]["type"] == "video-classification"
    assert own["dataset"]["revision"] == "d0"
    assert own["source"]["url"] == f"{constants.ENDPOINT}/{REPO}"
    (metric,) = own["metrics"]
    assert metric == {
        "type": "accuracy",
        "name": "Top-1 accuracy",
        "value": 0.9,
        "args": {"n": 60, "ci95": [0.79, 0.96]},
        "verified": False,
    }
    assert "| demo | Supervised | Top-1 accuracy | 90.0 [79.0, 96.0] | – | 60 |" in card.text
    for part in ("How to use it", "Intended use and limits", "Data", "Configuration", "Hashes"):
        assert f"\n## {part}\n" in card.text
    assert f'vidprompt.load("hf://{REPO}")' in card.text
    assert str(project.parent) not in text


def test_what_others_made_is_not_replaced(pushed: Push, hub: Hub, project: Path) -> None:
    hub.make("me/notes", {"README.md": b"# Mine", "a.bin": b"a"})
    with pytest.raises(UserError, match=r"did not make \(README.md, a.bin\): --yes replaces it"):
        pushed("me/notes")
    with pytest.raises(UserError, match="me/notes is public, and --private is asked for"):
        pushed("me/notes", private=True)
    assert hub.repos["me/notes"].messages == ["initial commit"]
    pushed()
    (project / "models/demo/ez_clip" / TRAINING).rename(project / "models/demo/ez_clip/other")
    with pytest.raises(UserError, match=f"{REPO} has the model {RUN}: --yes replaces it"):
        pushed(model="demo/ez_clip/other")
    pushed("me/notes", model="demo/ez_clip/other", overwrite=True, message="Why")
    assert hub.repos["me/notes"].messages[-1] == "Why"
    assert "a.bin" in hub.repos["me/notes"].commits[hub.repos["me/notes"].branches["main"]]


def test_a_new_training_replaces_the_files_of_the_old_one(
    pushed: Push, hub: Hub, project: Path
) -> None:
    pushed()
    repo = hub.repos[REPO]
    files = dict(repo.commits[repo.branches["main"]])
    assert repo.add("main", files | {"README.md": b"edited"}, "edit")
    with pytest.raises(UserError, match="has a README.md that was edited there: --yes"):
        pushed()
    pushed(overwrite=True)
    backbone = project / WEIGHTS
    other = backbone.with_name("renamed.safetensors")
    shutil.copy(backbone, other)
    backbone.unlink()
    find = find_publication(RUN, weights=other)
    places = {place.replace("tiny", "renamed"): file for place, file in find.files.items()}
    content = contents(find, REPO)
    hashes = {name.replace("tiny", "renamed"): value for name, value in content.hashes.items()}
    record = content.texts["vidprompt.json"].replace(b"tiny", b"renamed")
    texts = {**content.texts, "vidprompt.json": record}
    push(type(content)(content.name, "", places, texts, hashes), REPO)
    now = set(repo.commits[repo.branches["main"]])
    assert now == {name.replace("tiny", "renamed") for name in PUSHED}


def test_an_interrupted_push_goes_on_and_a_repeated_one_changes_nothing(
    pushed: Push, hub: Hub
) -> None:
    hub.refuse = lambda line: 400 if "/commit/" in line else 0
    with pytest.raises(UserError, match=f"the Hub answers 400 for {REPO}"):
        pushed()
    assert len(hub.repos[REPO].commits) == 1
    hub.refuse = lambda line: 0
    uploads = sum(line.startswith("PUT") for line in hub.log)
    assert uploads == 2
    first = pushed()
    assert sum(line.startswith("PUT") for line in hub.log) == uploads
    assert pushed() == first
    assert len(hub.repos[REPO].commits) == 2


def test_a_branch_is_made_and_a_change_meanwhile_is_seen(
    pushed: Push, hub: Hub, project: Path
) -> None:
    done = pushed(branch="trial")
    assert set(hub.repos[REPO].commits[hub.repos[REPO].branches["main"]]) == {".gitattributes"}
    assert done.address.endswith(hub.repos[REPO].branches["trial"])
    with pytest.raises(UserError, match="is a commit: --revision names a branch"):
        pushed(branch="0" * 40)
    (project / "params/registry.yaml").write_text("stages: [a]\nbackbone_licences: {tiny: other}\n")

    def somebody_else(line: str) -> int:
        repo = hub.repos[REPO]
        if line.endswith("/preupload/trial"):
            repo.add("trial", repo.commits[repo.branches["trial"]] | {"x": b"x"}, "x")
        return 0

    hub.refuse = somebody_else
    with pytest.raises(
        TransientError, match="was changed by somebody else meanwhile: run it again"
    ):
        pushed(branch="trial")


def test_the_token_is_asked_for_and_never_shown(
    pushed: Push, hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    shown = CliRunner().invoke(app, ["push-to-hub", RUN, REPO]).output
    assert shown.splitlines()[-1] == f"hf://{REPO}@{hub.repos[REPO].branches['main']}"
    hub.refuse = lambda line: 403 if line.startswith("POST") else 0
    with pytest.raises(UserError, match=r"refuses me/other \(403\): this machine's token may not"):
        pushed("me/other")
    assert TOKEN not in shown + caplog.text
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(UserError, match="has no token of the Hub's: log in with `hf auth login`"):
        pushed("me/other")


def test_a_dry_run_asks_nobody_and_shows_everything(project: Path, hub: Hub) -> None:
    shown = CliRunner().invoke(app, ["push-to-hub", RUN, REPO, "--dry-run"]).output
    assert all(
        re.search(rf"^{re.escape(name)} +[\d,]+$", shown, re.MULTILINE)
        for name in PUSHED - {".gitattributes"}
    )
    assert "\nlicense: mit\n" in shown
    assert hub.log == []


@pytest.mark.parametrize(
    ("model", "repo", "problem"),
    [
        ("open_clip:ViT-B-32:openai", REPO, "is a backbone without a training"),
        (RUN, "small", "'small' is no name of a repository on the Hub: OWNER/NAME"),
        (RUN, "a/b/c", "'a/b/c' is no name of a repository on the Hub: OWNER/NAME"),
    ],
)
def test_what_cannot_be_published(project: Path, model: str, repo: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        contents(find_publication(model), repo)


def test_a_licence_has_to_be_known(project: Path) -> None:
    (project / "params/registry.yaml").write_text("stages: [a]\n", "utf-8")
    publication = find_publication(RUN)
    with pytest.raises(
        UserError, match=r"the licence of the backbone tiny is not known.*--license"
    ):
        contents(publication, REPO)
    card = contents(publication, REPO, "apache-2.0").texts["README.md"]
    assert b"license: apache-2.0" in card


def test_pickled_weights_are_not_published(project: Path) -> None:
    pickled = project / "tiny.pt"
    pickled.write_bytes((project / WEIGHTS).read_bytes())
    with pytest.raises(UserError, match=r"tiny.pt is no safetensors file, and only those are"):
        find_publication(RUN, weights=pickled)
