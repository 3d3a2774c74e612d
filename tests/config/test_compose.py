"""Configuration: typos are sentences, and dvc.yaml names the parameter files a stage reads."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.pipeline.project import edit

from vidprompt.config.compose import compose, config_hash
from vidprompt.pipeline import matrix
from vidprompt.system.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("methd=ez_clip", "unknown key 'methd': did you mean method?"),
        (
            "method.objective_options.bais=-10",
            "unknown key 'method.objective_options.bais': did you mean method.objective_options.bias?",
        ),
        (
            "method=ezclip",
            "did you mean ez_clip? valid: clip_lora, ez_clip, frozen_clip, tip_adapter,",
        ),
        ("trainer.lrr=1", "did you mean trainer.lr?"),
        ("trainer.lr.x=1", "trainer.lr is a value"),
        ("trainer.lr", "not of the form key=value"),
    ],
)
def test_a_typo_lists_the_valid_choices(override: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        compose([override])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_command_line_exits_with_2_and_one_line() -> None:
    command = [sys.executable, "-m", "vidprompt.cli", "train", "dataset=demo", "methd=ez_clip"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "valid: backbone, dataset" in done.stderr


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nsys.argv = ['vidprompt', '--help']\nfrom vidprompt.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'open_clip', 'pandas', 'hydra') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


def test_a_split_implies_its_protocol_unless_told() -> None:
    assert compose(["split=few_shot_2shot_seed1"]).protocol.name == "few_shot"
    assert compose(["split=reid", "protocol=supervised"]).protocol.name == "supervised"


def test_a_recipe_follows_trainer_and_method_and_the_command_line_has_the_last_word() -> None:
    ez, vita = compose(["method=ez_clip"]).trainer, compose(["method=vita_clip"]).trainer
    for method, trainer in (("ez_clip", ez), ("vita_clip", vita)):
        recipe = yaml.safe_load((ROOT / f"params/recipe/demo/{method}.yaml").read_text("utf-8"))
        assert trainer.length == recipe["trainer"]["length"]
    assert (ez.augmentation.jitter, vita.augmentation.jitter) == (0.8, 0.0)
    assert compose(["method=vita_clip", "trainer.lr=0.5"]).trainer.lr == 0.5
    assert compose(["trainer=released"]).trainer.length == "150 epochs"
    with pytest.raises(UserError, match="unknown key 'recipe'"):
        compose(["recipe=demo"])


def test_a_protocols_own_numbers_replace_the_trainers_unless_given() -> None:
    own = compose(["split=reid"]).trainer
    table = yaml.safe_load((ROOT / "params/trainer/demo.yaml").read_text("utf-8"))["by_protocol"][
        "reid"
    ]
    assert own.augmentation.flip is table["augmentation"]["flip"] is True
    assert own.augmentation.jitter == table["augmentation"]["jitter"]
    assert own.lr == compose([]).trainer.lr / 2
    assert "by_protocol" not in compose(["split=reid"]).values["trainer"]
    told = compose(["split=reid", "trainer.lr=0.5", "trainer.augmentation.flip=false"]).trainer
    assert (told.lr, told.augmentation.flip, told.length) == (0.5, False, own.length)


def test_a_typo_in_a_protocols_own_numbers_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    edit(tmp_path / "params/recipe/demo/ez_clip.yaml", trainer__by_protocol={"reid": {"lrr": 2}})
    with pytest.raises(
        UserError, match=r"trainer.by_protocol.reid: unknown 'lrr': did you mean lr"
    ):
        compose(["split=reid"])


def test_a_number_that_only_a_recipe_gives_may_be_given_without_one() -> None:
    config = compose(["method=frozen_clip", "trainer.lr=1"])
    assert config.values["trainer"]["lr"] == 1
    with pytest.raises(UserError, match="trainer.length: no value"):
        _ = config.trainer
    assert compose(["method=frozen_clip", "trainer.lr=1", "trainer.length=2"]).trainer.lr == 1


def test_an_experiment_chooses_groups_and_wins_over_own_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    (tmp_path / "params/experiment/mine@paper.yaml").write_text(
        "# @package _global_\n"
        "defaults: [override /dataset: ucf101, override /method: vita_clip, override /frames: all]\n"
        "split: few_shot_2shot_seed1\ntrainer: {lr: 0.25}\nprotocol: {shots: [3]}\n"
    )
    monkeypatch.chdir(tmp_path)
    edit(tmp_path / "params/dataset/ucf101.yaml", protocols__few_shot={"shots": [5], "seeds": [9]})
    config = compose(["experiment=mine@paper"])
    assert (config.dataset.name, config.method.name) == ("ucf101", "vita_clip")
    assert (config.protocol.name, config.frames.frames) == ("few_shot", None)
    assert config.backbone.name == "ViT-B-16-quickgelu"  # as the dataset's pipeline says
    assert (list(config.protocol.shots), list(config.protocol.seeds)) == ([3], [9])
    assert config.trainer.lr == 0.25  # though the recipe has few-shot's own
    assert compose(["experiment=mine@paper", "trainer.lr=1"]).trainer.lr == 1
    assert compose(["experiment=mine@paper", "method=ez_clip"]).method.name == "ez_clip"
    with pytest.raises(UserError, match="did you mean mine@paper"):
        compose(["experiment=mine@papr"])


def test_a_method_goes_with_texts_of_its_own_unless_dataset_experiment_or_command_choose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    dataset = tmp_path / "params/dataset/ucf101.yaml"
    edit(tmp_path / "params/method/vita_clip.yaml", pipeline={"prompts": "class_name"})
    edit(dataset, pipeline={"backbone": "vit_b_16", "trainer": "released"})
    chosen = ["dataset=ucf101", "method=vita_clip"]
    own = compose(chosen)
    assert own.values["prompts"] == compose([*chosen, "prompts=class_name"]).values["prompts"]
    assert "pipeline" not in own.values["method"]  # what a method goes with is no part of it
    (tmp_path / "params/experiment/mine.yaml").write_text(
        "# @package _global_\ndefaults: [override /prompts: demo]\n"
    )
    demo = compose(["experiment=mine", *chosen]).values["prompts"]
    assert demo == compose([*chosen, "prompts=demo"]).values["prompts"] != own.values["prompts"]
    edit(dataset, pipeline={"backbone": "vit_b_16", "prompts": "demo", "trainer": "released"})
    assert compose(chosen).values["prompts"] == demo
    with pytest.raises(UserError, match="unknown key 'method.pipeline.prompts'"):
        compose([*chosen, "method.pipeline.prompts=demo"])
    edit(tmp_path / "params/method/vita_clip.yaml", pipeline={"trainer": "demo"})
    with pytest.raises(UserError, match=r"vita_clip.yaml: pipeline=trainer: .*prompts, views"):
        compose(chosen)


def test_the_stages_of_one_dataset_read_each_methods_own_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    edit(tmp_path / "params/dataset/ucf101.yaml", pipeline={"trainer": "released"})
    for method, prompts in (("ez_clip", "learned_context"), ("vita_clip", "class_name")):
        edit(tmp_path / f"params/method/{method}.yaml", pipeline={"prompts": prompts})
    stages = _stages("ucf101", "ez_clip", "vita_clip")
    for kind in ("train", "features", "evaluate"):
        read = {(row["method"], Path(row["prompts"]).stem) for row in stages[kind].values()}
        trained = {("ez_clip", "learned_context"), ("vita_clip", "class_name")}
        usual = Path(stages["dataset"]["ucf101"]["prompts"]).stem
        assert read - {("frozen_clip", usual)} == trained


def test_a_method_is_tested_with_its_own_views_unless_something_chooses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)

    def views(*overrides: str) -> dict[str, Any]:
        found: dict[str, Any] = compose(["dataset=ucf101", *overrides]).values["views"]
        return found

    own = {
        name: yaml.safe_load((ROOT / f"params/views/{name}.yaml").read_text("utf-8"))
        for name in ("centre", "ez_clip", "frozen_clip", "tracklets", "vita_clip")
    }
    for method in ("ez_clip", "frozen_clip", "vita_clip"):
        assert views(f"method={method}") == own[method]
        imported = views(f"method={method}", "split=kinetics400/imported", "protocol=zero_shot")
        assert imported == own[method]
        assert views(f"method={method}", "views=centre") == own["centre"]
    changed = views("method=vita_clip", "views.clips=1")
    assert changed == own["vita_clip"] | {"clips": 1}
    # persons are not cropped, whichever method; the floor has one encoding for all protocols
    assert views("method=ez_clip", "split=reid") == own["tracklets"]
    assert views("method=vita_clip", "protocol=reid") == own["tracklets"]
    assert views("method=frozen_clip", "protocol=reid") == own["frozen_clip"]
    # a dataset's choice: for one method, or for all
    pipeline = {"backbone": "vit_b_16", "views": {"vita_clip": "centre"}}
    edit(tmp_path / "params/dataset/ucf101.yaml", pipeline=pipeline)
    assert views("method=vita_clip") == own["centre"]
    assert views("method=ez_clip") == own["ez_clip"]
    stages = _stages("ucf101", "ez_clip", "vita_clip")
    for kind in ("train", "features", "evaluate"):
        read = {(row["method"], Path(row["views"]).stem) for row in stages[kind].values()}
        floor = {("frozen_clip", "frozen_clip")}
        assert read - floor == {("ez_clip", "ez_clip"), ("vita_clip", "centre")}
    assert stages["dataset"]["ucf101"]["views"] == "params/views/frozen_clip.yaml"
    edit(tmp_path / "params/dataset/ucf101.yaml", pipeline={"views": "centre"})
    assert views("method=ez_clip", "split=reid") == own["centre"]
    edit(tmp_path / "params/dataset/ucf101.yaml", pipeline={"views": {"vita": "centre"}})
    with pytest.raises(UserError, match="pipeline.views=vita: did you mean vita_clip"):
        views()


def test_a_persons_stages_read_the_views_of_tracklets() -> None:
    stages = _stages("demo", "ez_clip")
    views = {
        f"{kind}@{key}": row.get("views") for kind, s in stages.items() for key, row in s.items()
    }
    assert views["features@demo-ez_clip-reid"] == "params/views/tracklets.yaml"
    assert views["reid@demo-ez_clip"] == "params/views/tracklets.yaml"
    assert views["reid@demo-frozen_clip"] == "params/views/frozen_clip.yaml"
    assert views["features@demo-ez_clip-supervised_split1"] == "params/views/ez_clip.yaml"


def test_descriptions_are_the_datasets_own_and_what_is_in_them_is_in_the_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    texts = tmp_path / "params/prompts/descriptions"
    for dataset, described_as in (("hmdb51", "hmdb51"), ("ucf_ds", "ucf101")):
        file = compose([f"dataset={dataset}", "method=ez_clip"]).prompts.descriptions
        assert file == f"params/prompts/descriptions/{described_as}.csv"
        assert (tmp_path / file).is_file()
    before = compose(["dataset=hmdb51", "method=ez_clip"])
    own = compose(["dataset=hmdb51", "method=ez_clip", f"prompts.descriptions={texts}/ssv2.csv"])
    assert own.prompts.descriptions == f"{texts}/ssv2.csv"
    file = texts / "hmdb51.csv"
    file.write_text(file.read_text("utf-8").replace("A woman or girl", "A woman"))
    after = compose(["dataset=hmdb51", "method=ez_clip"])
    assert len({config_hash(one, "prompts") for one in (before, own, after)}) == 3
    train = _stages("hmdb51", "ez_clip", "vita_clip")["train"]
    read = {(row["method"], row["texts"]) for row in train.values()}
    nothing = "src/vidprompt/models/text/descriptions.py"
    assert read == {
        ("ez_clip", "params/prompts/descriptions/hmdb51.csv"),
        ("vita_clip", nothing),
    }
    file.unlink()
    with pytest.raises(UserError, match=r"hmdb51: ez_clip reads descriptions, and there is no .*"):
        _stages("hmdb51", "ez_clip")


def test_what_reads_descriptions_depends_on_the_file() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"]
    reading = {name for name, stage in stages.items() if "${item.texts}" in stage["do"]["deps"]}
    assert reading == {"train", "features", "floor"}


def _stages(dataset: str, *trained: str) -> matrix.Stages:
    return matrix.stages_of([dataset], {"active": [dataset], "trained": list(trained)})


def test_the_hash_follows_the_named_parts_only() -> None:
    one, other = compose([]), compose(["trainer.lr=0.5"])
    assert config_hash(one, "trainer") != config_hash(other, "trainer")
    assert config_hash(one, "method") == config_hash(other, "method")


def test_every_stage_names_the_parameter_files_it_reads() -> None:
    reads = {  # configuration groups a stage's code uses
        "unpack": {"dataset"},
        "manifest": {"dataset"},
        "splits": {"dataset", "protocol"},
        "validate": {"dataset", "protocol"},
        "frames": {"dataset", "frames"},
        "backbone": {"backbone"},
        "train": {
            "backbone",
            "dataset",
            "frames",
            "method",
            "prompts",
            "protocol",
            "trainer",
        },
        "features": {"backbone", "method", "prompts", "views"},
        "floor": {"backbone", "method", "prompts", "views"},
        "evaluate": {"backbone", "dataset", "frames", "method", "prompts", "protocol", "views"},
        "reid": {"backbone", "dataset", "frames", "method", "prompts", "protocol", "views"},
        "report": {"backbone", "dataset"},
    }
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"]
    assert set(stages) == set(reads)
    for name, groups in reads.items():
        params = [next(iter(entry)) for entry in stages[name]["do"]["params"]]
        # a file by its folder, or what stages.yaml has in its place: ${item.views}, ${item.method_file}
        listed = {Path(entry).parent.name for entry in params}
        listed |= {entry[7:-1].removesuffix("_file") for entry in params}
        if "method" in groups:  # a recipe may change its options
            assert {"${item.recipe}", "${item.recipe_base}"} <= set(params) or "views" in groups
        assert groups <= listed, name


def test_a_training_reads_the_datasets_own_numbers_of_protocols_and_no_counts() -> None:
    train = yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"]["train"]["do"][
        "params"
    ]
    [dataset] = [keys for entry in train for file, keys in entry.items() if "dataset_file" in file]
    assert dataset == ["mirror", "protocols"]


def test_stages_name_what_they_read_below_a_datasets_root() -> None:
    """Videos and annotations, class lists, partitions, published lists."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"]
    reading = {name for name, stage in stages.items() if "${item.root}" in stage["do"]["deps"]}
    assert reading == {"manifest", "splits", "validate", "frames"}
