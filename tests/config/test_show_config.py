"""`vidprompt config`: the resolved configuration as YAML, and the source of every value."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.pipeline.project import edit
from typer.testing import CliRunner

from vidprompt.cli.main import app, main
from vidprompt.cli.show_config import as_yaml
from vidprompt.config.compose import compose, compose_values

ROOT = Path(__file__).parents[2]
EXPERIMENTS = sorted(file.stem for file in (ROOT / "params/experiment").glob("*.yaml"))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shown(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["config", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def sources_of(text: str) -> dict[str, str]:
    """Dotted name → what follows `#`, from the printed lines."""
    found, path = {}, []
    for line in text.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        path = [*path[:depth], line.strip().partition(":")[0]]
        if "  # " in line:
            found[".".join(path)] = line.rpartition("  # ")[2]
        else:
            assert line.endswith(":"), f"a value without a source: {line}"
    return found


@pytest.mark.parametrize(
    "overrides",
    [[], ["split=reid"], ["dataset=ccvid", "trainer=paper", "protocol=few_shot"], ["runner=ray"]]
    + [[f"experiment={name}"] for name in EXPERIMENTS],
    ids=lambda one: " ".join(one) or "none",
)
def test_every_value_has_a_source_and_the_yaml_is_what_stages_get(
    project: Path, overrides: list[str]
) -> None:
    composition = compose_values(overrides)
    for text in (as_yaml(composition), as_yaml(composition, sources=True)):
        assert _loaded(text) == composition.values
    found = sources_of(as_yaml(composition, sources=True))
    assert found == composition.sources
    for source in set(found.values()) - {"command line"}:
        assert (project / source.partition(" (")[0]).is_file()


def _loaded(text: str) -> object:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(OmegaConf.create(text))


def test_a_value_names_the_level_that_set_it(project: Path) -> None:
    (project / "params/experiment/mine.yaml").write_text(
        "# @package _global_\ntrainer: {weight_decay: 0.25}\nseed: 3\n"
    )
    arguments = ["experiment=mine", "split=few_shot_2shot_seed1", "trainer.augmentation.flip=true"]
    text = shown(*arguments, "trainer.lr_scale.vision_adapters=0.5", "--sources")
    found = sources_of(text)
    demo, recipe = "params/trainer/demo.yaml", "params/recipe/demo/ez_clip.yaml"
    assert found["trainer.schedule"] == demo
    assert found["trainer.lr"] == found["trainer.lr_scale.prompts"] == recipe
    assert found["method.options.prompt_start"] == recipe
    assert found["method.options.adapter_ratio"] == "params/method/ez_clip.yaml"
    assert found["trainer.length"] == f"{recipe} (by_protocol.few_shot)"
    assert found["protocol.shots"] == "params/dataset/demo.yaml (protocols.few_shot)"
    assert found["protocol.nested"] == "params/protocol/few_shot.yaml"
    assert found["trainer.weight_decay"] == found["seed"] == "params/experiment/mine.yaml"
    assert found["workers"] == "params/config.yaml"
    assert found["split"] == found["trainer.augmentation.flip"] == "command line"
    assert found["trainer.lr_scale.vision_adapters"] == "command line"
    config = compose([*arguments, "trainer.lr_scale.vision_adapters=0.5"])
    assert (config.trainer.length, config.trainer.weight_decay, config.seed) == (150, 0.25, 3)
    based = sources_of(shown("trainer=paper", "--sources"))
    assert based["trainer.precision"] == "params/trainer/released.yaml"
    assert based["trainer.weight_decay"] == "params/recipe/released/ez_clip.yaml"
    assert based["trainer.lr"] == "params/recipe/paper/ez_clip.yaml"


def test_the_command_line_and_an_experiment_keep_what_they_set(project: Path) -> None:
    edit(project / "params/dataset/demo.yaml", protocols__reid={"margin": 0.7})
    few = [
        "split=reid",
        "protocol.margin=0.1",
        "trainer.lr=0.5",
        "trainer.by_protocol.reid.length=7",
    ]
    found = sources_of(shown(*few, "--sources"))
    assert found["protocol.margin"] == found["trainer.lr"] == "command line"
    assert found["trainer.length"] == "command line (by_protocol.reid)"
    config = compose(few)
    assert (config.trainer.lr, config.trainer.length) == (0.5, 7)
    assert sources_of(shown("split=reid", "--sources"))["protocol.margin"].startswith(
        "params/dataset/demo.yaml"
    )


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("trainer.lrr=1", "did you mean trainer.lr? valid: "),
        ("trainer.lr=abc", "trainer.lr=abc: a number from 0"),
        ("trainer.schedule=cosin", "did you mean cosine? valid: cosine, multistep, constant"),
        ("trainer.lr=1,2", "trainer.lr=1,2: one value is needed"),
        ("dataset.roles=[actions]", "dataset.roles=[actions]: "),
        ("multirun.settings={a:b}", "multirun.settings={a:b}: Key 'a' is not in struct"),
        ("views=centr", "did you mean centre?"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argument: str,
    says: str,
) -> None:
    monkeypatch.setattr("sys.argv", ["vidprompt", "config", argument])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    said = capsys.readouterr()
    assert says in said.err
    assert len(said.err.splitlines()) == 1
    assert not said.out


def test_a_file_with_an_unknown_key_is_one_line(project: Path) -> None:
    edit(project / "params/recipe/demo/ez_clip.yaml", trainer__lenght=3)
    done = CliRunner().invoke(app, ["config"])
    assert str(done.exception).startswith(
        "unknown key 'trainer.lenght': did you mean trainer.length?"
    )
