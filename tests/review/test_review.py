"""The review of two revisions: proof, verdicts, differences; the same sides give the same bytes."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.pipeline.project import run
from tests.review import project
from typer.testing import CliRunner

from vidprompt.cli.main import app
from vidprompt.reporting.markdown import code, escaped
from vidprompt.review.build import Review, build_review
from vidprompt.review.markdown import review_markdown
from vidprompt.review.output import write_review
from vidprompt.review.result_diff import ChangeKind
from vidprompt.system.errors import UserError

EZ, VITA, FLOOR = range(40), range(12, 54), range(10)
METRICS = project.METRICS.format("ez_clip")
PREDICTIONS = "cache/predictions/toy/ez_clip/supervised.parquet"
COST = "results/toy/cost.json"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Base: floor and EZ-CLIP. Head: EZ-CLIP got worse, the floor is the same, Vita-CLIP is new."""
    folder = tmp_path_factory.mktemp("template") / "p"
    project.start(folder)
    project.write_project(folder, {"frozen_clip": FLOOR, "ez_clip": EZ})
    costs = {"train@toy-ez_clip-supervised": _cost(10.0, 100), "manifest@toy": _cost(1.0, 50)}
    (folder / COST).write_text(json.dumps(costs))
    project.commit(folder, "Base | of <all> *things*")
    right = {"frozen_clip": FLOOR, "ez_clip": range(20), "vita_clip": VITA}
    project.write_project(folder, right, rate=0.2)
    (folder / "params/more.yaml").write_text("a: 1\nb: 2\n")
    (folder / "src/model.py").write_text("model = 2\n")
    costs["train@toy-ez_clip-supervised"] = _cost(25.0, 150)
    (folder / COST).write_text(json.dumps(costs))
    project.commit(folder, "Head")
    return folder


def _cost(seconds: float, memory: int, machine: str = "a CPU, 2 cores") -> dict[str, object]:
    measured = {"seconds": seconds, "peak_memory_mb": memory, "machine": machine}
    return measured | {"inputs": f"{seconds}"}


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "p"))


def _reviewed(folder: Path, base: str = "HEAD~1", draw: bool = False) -> tuple[Review, str]:
    found = build_review(base, root=folder, draw=draw)
    return found, review_markdown(found)


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def _forge(folder: Path) -> str:
    """A better number, by hand; what it was."""
    value = str(
        json.loads((folder / METRICS).read_text("utf-8"))["summary"]["supervised"]["top1"]["value"]
    )
    _edit(folder / METRICS, value, "0.987654")
    return value


def _lines(found: Review, result: str) -> dict[str, ChangeKind]:
    of_it = next(one for one in found.results if "/".join(one.result) == result)
    return {line.measure: line.kind for line in of_it.changes}


def test_what_changed(folder: Path) -> None:
    found, text = _reviewed(folder, draw=True)
    assert found.findings == []
    assert (found.lock.stages, found.recomputed.done, found.unchanged) == (5, 3, 1)
    assert _lines(found, "toy/ez_clip/supervised")["top-1"] is ChangeKind.WORSE
    assert set(_lines(found, "toy/vita_clip/supervised").values()) == {ChangeKind.NEW}
    top1 = found.results[0].changes[0]
    assert top1.base is not None
    assert top1.head is not None
    assert (top1.base.value, top1.head.value) == pytest.approx((40 / 60, 20 / 60), abs=1e-6)
    assert top1.difference == pytest.approx(-1 / 3, abs=1e-6)
    assert "worse**: `toy/ez_clip/supervised` top-1 −33.3 [" in text
    assert "- `rate` `0.1` → `0.2`" in text
    assert "**`more.yaml`** new, 2 keys" in text
    assert "- `evaluate@vita_clip`" in text  # a stage that is new
    assert "- `src/model.py`: 3 stages" in text
    assert "| `ez_clip`<br>`supervised` | 2 | 1.000 → **2.000** |" in text
    assert "10.0 → **25.0**<br><sub>× 2.50</sub> | 100 → **150**" in text
    assert "Base &#124; of &#60;all&#62; &#42;things&#42;" in text
    names = [picture.name for picture in found.pictures]
    assert names == [
        f"toy-{one}.png" for one in ("ez_clip-supervised", "vita_clip-supervised", "ez_clip-loss")
    ]
    assert all(f"({name})" in text for name in names)
    assert all(len(picture.png) < 100_000 for picture in found.pictures)


def test_the_same_bytes_again_and_elsewhere(folder: Path, tmp_path: Path) -> None:
    def files(where: Path, out: Path) -> dict[str, bytes]:
        write_review(build_review("HEAD~1", root=where), out)
        return {path.name: path.read_bytes() for path in sorted(out.iterdir())}

    other = Path(shutil.copytree(folder, tmp_path / "elsewhere" / "deep"))
    first = files(folder, tmp_path / "out")
    shutil.copytree(tmp_path / "out", tmp_path / "again")
    (tmp_path / "again" / "gone.png").write_bytes(b"of an earlier review")
    (tmp_path / "again" / ".review.json").write_text(
        '["gone.png", "review.md", "../out/review.md"]'
    )
    assert first == files(folder, tmp_path / "again") == files(other, tmp_path / "third")
    assert {"review.md", "summary.md", "review.html"} < first.keys()
    shown = first["review.html"].decode()
    assert shown.count("data:image/png;base64,") == 3
    assert not re.search(r'(src|href)="(?!data:)', shown)
    summary = first["summary.md"].decode()
    assert "![" not in summary
    assert "`toy-ez_clip-supervised.png` of the artifact" in summary
    assert str(tmp_path) not in "".join(
        text.decode() for n, text in first.items() if n[-3:] != "png"
    )


def test_metrics_edited_by_hand(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    _forge(folder)
    done = CliRunner().invoke(app, ["review", "HEAD~1", "--out", "out", "--no-pictures"])
    assert done.exit_code == 1
    named = [line for line in done.stdout.splitlines() if line.startswith(METRICS)]
    assert len(named) == 2  # by its hash, and by its predictions
    assert re.search(r"`evaluate@ez_clip` wrote: MD5 \w{32} here, \w{32} recorded", named[1])
    text = (folder / "out/review.md").read_text("utf-8")
    assert text.splitlines()[5].startswith("**✘ The results do not follow from code and params: 2")
    assert named[0].partition(": ")[2] in text


def test_lock_forged_with_the_metrics(folder: Path) -> None:
    value = _forge(folder)
    project.record(folder)
    found, _ = _reviewed(folder)
    assert [(f.subject, f.sentence) for f in found.findings] == [
        (
            METRICS,
            f"`summary.supervised.mean_class.value` is 0.987654 and should be {value}, and 3 other "
            "numbers are not: the predictions say otherwise",
        )
    ]


def _other_code(folder: Path) -> None:
    _edit(folder / "src/model.py", "2", "3")


def _other_param(folder: Path) -> None:
    _edit(folder / "params/trainer.yaml", "0.2", "0.3")


def _other_command(folder: Path) -> None:
    _edit(folder / "dvc.yaml", "echo train", "echo trained")


def _never_run(folder: Path) -> None:
    path = folder / "dvc.yaml"
    data, rest = path.read_text("utf-8").split("  train:", 1)
    data = data.replace("[toy]", "[toy, other]").replace("toy", "${item}")
    data = data.replace("[${item}, other]", "[toy, other]")
    data = re.sub(r"(\w+/\w+/\$\{item\}|\w+/\$\{item\}/health.json)", r'"\1"', data)
    path.write_text(f"{data}  train:{rest}")


def _left_over(folder: Path) -> None:
    _edit(folder / "dvc.yaml", "      vita_clip: {}\n", "")


def _no_metrics(folder: Path) -> None:
    (folder / METRICS).unlink()


def _lock_of_other_data(folder: Path) -> None:
    path = folder / "dvc.lock"
    head, evaluate = path.read_text("utf-8").split("  evaluate@ez_clip:", 1)
    path.write_text(
        head
        + "  evaluate@ez_clip:"
        + re.sub(r"md5: \w{32}\.dir", f"md5: {'0' * 32}.dir", evaluate, count=1)
    )


@pytest.mark.parametrize(
    ("spoil", "subject", "sentence"),
    [
        (_other_code, "src/model.py", "has changed since 4 stages ran (evaluate, train)"),
        (_other_param, "params/trainer.yaml: rate", "has changed since 4 stages ran"),
        (_other_command, "train@toy-ez_clip-supervised", "its command is not the one"),
        (_never_run, "manifest@other", "it has not run"),
        (_left_over, "evaluate@vita_clip", "dvc.yaml has not"),
        (_left_over, project.METRICS.format("vita_clip"), "no stage of dvc.yaml writes it"),
        (_no_metrics, METRICS, "`evaluate@ez_clip` wrote it and it is not here"),
        (_lock_of_other_data, "evaluate@ez_clip", "it was edited, or stages ran apart"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("fresh", [False, True], ids=["here", "fresh"])
def test_what_does_not_follow(
    folder: Path, spoil: Callable[[Path], None], subject: str, sentence: str, fresh: bool
) -> None:
    if fresh:  # as a checkout in CI: nothing of DVC's is here
        shutil.rmtree(folder / ".dvc/cache")
        shutil.rmtree(folder / "cache")
    spoil(folder)
    found = build_review("HEAD", root=folder, draw=False).findings
    assert [f for f in found if f.subject == subject and sentence in f.sentence], found
    if spoil in (_other_code, _other_param, _other_command, _no_metrics):
        assert len(found) == 1


def test_a_fresh_clone_is_unpaired(folder: Path, tmp_path: Path) -> None:
    run("git", "clone", "-q", str(folder), "clone", folder=tmp_path)
    found, text = _reviewed(tmp_path / "clone")
    assert found.findings == []
    assert (found.recomputed.done, found.recomputed.without) == (0, 3)
    assert _lines(found, "toy/ez_clip/supervised")["top-1"] is ChangeKind.UNPAIRED
    assert "Unpaired: the predictions of base are not available." in text
    assert "66.7 → **33.3**<br><sub>" in text  # the values are there all the same
    assert "The manifest of one side is not available" not in text  # dvc.lock has the same one
    run("dvc", "remote", "add", "there", str(folder / ".dvc/cache"), folder=tmp_path / "clone")
    with_remote = build_review("HEAD~1", remotes=True, draw=False, root=tmp_path / "clone")
    assert _lines(with_remote, "toy/ez_clip/supervised")["top-1"] is ChangeKind.WORSE


def test_base_without_the_dataset(tmp_path: Path) -> None:
    project.start(tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "first").write_text("")
    run("git", "add", "-A", folder=tmp_path)
    run("git", "commit", "-qm", "first", folder=tmp_path)
    project.write_project(tmp_path, {"ez_clip": EZ})
    project.commit(tmp_path, "second")
    found, text = _reviewed(tmp_path)
    assert found.findings == []
    assert found.counts == {ChangeKind.NEW: 2}
    assert "**toy**: not in base, 60 of 60 videos usable" in text
    gone, text = _reviewed_from(tmp_path, "HEAD", "HEAD~1")
    assert gone.counts == {ChangeKind.REMOVED: 2}
    assert "**toy**: removed" in text


def _reviewed_from(folder: Path, base: str, head: str) -> tuple[Review, str]:
    """With the files of an earlier commit on disk."""
    run("git", "rm", "-rq", "--cached", ".", folder=folder)
    run("git", "clean", "-fdxq", "-e", ".dvc", folder=folder)
    run("git", "checkout", "-q", head, "--", ".", folder=folder)
    return _reviewed(folder, base)


def test_data(folder: Path) -> None:
    project.write_project(folder, {"frozen_clip": FLOOR, "ez_clip": EZ}, videos=66)
    project.write_data(folder, 66, broken=[3, 65])
    manifest = folder / "cache/manifest/toy/manifest.parquet"
    import pandas as pd

    table = pd.read_parquet(manifest)
    table.loc[table["video_id"] == "v001", "label"] = "sit"
    table[table["video_id"] != "v002"].to_parquet(manifest, index=False)
    project.record(folder)
    found, text = _reviewed(folder, "HEAD")
    videos = found.data[0].videos
    assert videos.added == tuple(f"v{i:03d}" for i in range(60, 66))
    assert (videos.removed, videos.broken, videos.mended) == (("v002",), ("v003",), ())
    assert videos.relabelled == (("v001", "run", "sit"),)
    assert "60 of 60 videos usable → **64 of 66**" in text
    assert "- `v003`: truncated" in text
    assert "- `v065`: truncated" in text
    assert "- list `supervised_split1/test`: 60 → 66 videos" in text
    assert "0 tests of base alone and 6 of head alone are left out" in text
    shutil.rmtree(folder / "results/toy/vita_clip")
    shutil.rmtree(folder / ".dvc/cache")  # the base's manifest is then nowhere
    found, text = _reviewed(folder, "HEAD")
    assert not found.data[0].complete
    assert found.data[0].videos.broken == ("v003", "v065")
    assert "- list `supervised_split1/test`: 60 → 66 videos" in text


def test_the_same_predictions_are_not_compared(folder: Path) -> None:
    metrics = json.loads((folder / METRICS).read_text("utf-8"))
    metrics["splits"]["supervised_split1"]["id"] = "supervised/toy@other"
    (folder / METRICS).write_text(json.dumps(metrics))
    project.record(folder)
    found, text = _reviewed(folder, "HEAD")
    assert _lines(found, "toy/ez_clip/supervised") == {}
    assert "The predictions are the same" in text


def test_cost_of_another_machine(folder: Path) -> None:
    costs = {"manifest@toy": _cost(3.0, 60, "a faster CPU, 64 cores")}
    (folder / COST).write_text(json.dumps(costs))
    found, text = _reviewed(folder, "HEAD")
    assert found.costs[0].changed[0].ratio("seconds") is None
    assert "1 stage measured on another machine: not compared" in text
    assert "1.0 s, 50 MB (a CPU, 2 cores) → 3.0 s, 60 MB (a faster CPU, 64 cores)" in text
    assert "1 stage no longer there" in text
    (folder / COST).unlink()
    assert "**toy**: cost.json is removed." in _reviewed(folder, "HEAD")[1]


def test_which_base(folder: Path) -> None:
    first = run("git", "rev-parse", "HEAD~1", folder=folder).strip()
    run("git", "checkout", "-qb", "side", folder=folder)
    assert build_review("", root=folder, draw=False).base.commit != first  # main's own head
    run("git", "branch", "-qf", "main", "HEAD~1", folder=folder)
    found = build_review("", root=folder, draw=False)
    assert found.base.commit == first
    assert not found.head.changed
    run("git", "checkout", "-q", "main", folder=folder)
    (folder / "other").write_text("main went on\n")
    run("git", "add", "-A", folder=folder)
    run("git", "commit", "-qm", "more", folder=folder)
    run("git", "checkout", "-q", "side", folder=folder)
    assert build_review("main", root=folder, draw=False).base.commit == first  # where side left it
    (folder / "other").write_text("")
    assert build_review("main", root=folder, draw=False).head.changed


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no dvc.yaml"):
        build_review(root=tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    run("git", "init", "-qb", "other", folder=tmp_path)
    with pytest.raises(UserError, match="no commit"):
        build_review(root=tmp_path)
    run("git", "add", "-A", folder=tmp_path)
    run(
        "git",
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@example.org",
        "commit",
        "-qm",
        "x",
        folder=tmp_path,
    )
    with pytest.raises(UserError, match="neither origin/main nor main"):
        build_review(root=tmp_path)
    with pytest.raises(UserError, match="no revision 'gone'"):
        build_review("gone", root=tmp_path)
    with pytest.raises(UserError, match="DVC has no project"):
        build_review("HEAD", root=tmp_path)


def test_names_are_no_markdown() -> None:
    assert escaped("a_b <b> |x| @me _c_") == "a_b &#60;b&#62; &#124;x&#124; &#64;me &#95;c&#95;"
    assert code("a|b`c\nd") == "`a¦b'c d`"
