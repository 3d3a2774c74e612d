"""Plug-ins of installed packages: listed without an import, used by name, harmless where they are broken."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.models.small import metadata_of, small_backbone
from tests.pipeline.project import edit
from tests.plugins.packages import install
from typer.testing import CliRunner

from vidprompt.cli.main import app
from vidprompt.config import names
from vidprompt.config.compose import compose, compose_values
from vidprompt.config.params_files import params_names
from vidprompt.config.plugins import plugins, used_plugins
from vidprompt.config.published import find_row, published_rows
from vidprompt.data.annotations import Source, read_annotations
from vidprompt.metrics.metric import METRICS, video_values
from vidprompt.models.backbones.loading import load_backbone
from vidprompt.models.checkpoint import load_checkpoint, save_checkpoint
from vidprompt.models.factory import METHODS, create_model
from vidprompt.models.methods.frozen_clip import FrozenCLIP
from vidprompt.models.text.prompts import PromptSet
from vidprompt.pipeline import matrix
from vidprompt.provenance import code
from vidprompt.provenance.code import code_hash
from vidprompt.provenance.plugin_links import plugin_code, renew_plugin_links
from vidprompt.system.errors import DataError, UserError
from vidprompt.training.objectives import create_objective

ROOT = Path(__file__).parents[2]
CODE = """
import numpy as np
import torch
from vidprompt.data.annotations.base import Annotation, DatasetAnnotations
from vidprompt.metrics.metric import Metric
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.training.objectives import CrossEntropy


class Scaled(VideoCLIP):
    def __init__(self, backbone, num_frames, *, class_names=(), gain: float = 1.0):
        super().__init__(backbone, num_frames, class_names=class_names)
        self.gain = torch.nn.Parameter(torch.full((self.feature_width,), float(gain)))

    def encode_video(self, *arguments, **options):
        frames, video = super().encode_video(*arguments, **options)
        return frames * self.gain, video * self.gain


class Loss(CrossEntropy):
    def __init__(self, model, class_names, prompts, *, kind: str = "soft", **options):
        super().__init__(model, class_names, prompts, **options)
        self.kind = kind


class Reciprocal(Metric):
    def of_videos(self, table):
        return (1 / (1 + table["rank"])).to_numpy()


class TooLarge(Metric):
    def of_videos(self, table):
        return np.full(len(table), 2.0)


def read(source):
    name = f"{source.name}/a.mp4"
    row = Annotation(name, source.name, "a.mp4", "video", "x", "", split1="train")
    return DatasetAnnotations([row], ["x"])


def read_nothing(source):
    return []
"""
ENTRIES = {
    "methods": {"scaled": "my_plugin:Scaled"},
    "objectives": {"my_loss": "my_plugin:Loss"},
    "metrics": {"mrr": "my_plugin:Reciprocal", "too_large": "my_plugin:TooLarge"},
    "datasets": {"one_video": "my_plugin:read", "no_videos": "my_plugin:read_nothing"},
}
METHOD = """name: scaled
num_frames: 4
options: {gain: 1.0}
objective: my_loss
objective_options: {kind: hard}
"""
RECIPE = "# @package _global_\ntrainer: {length: 7, lr: 0.5}\n"
FILES = {
    "__init__.py": CODE,
    "params/method/scaled.yaml": METHOD,
    "params/recipe/demo/scaled.yaml": RECIPE,
}


@pytest.fixture
def package(site: Path) -> object:
    yield install(site, "my-plugin", ENTRIES, FILES)
    sys.modules.pop("my_plugin", None)


def one_of(kind: str, name: str) -> str:
    return next(one.origin for one in plugins(kind) if one.name == name)


# -- what is installed -----------------------------------------------------------------------------


def test_plugins_are_listed_and_configured_without_an_import(package: Path, project: Path) -> None:
    assert [one.name for one in plugins("methods")] == ["scaled"]
    assert list(METHODS)[-1] == "scaled"
    assert one_of("metrics", "mrr") == "my-plugin 0.1.0"
    config = compose(["method=scaled", "metrics=[mrr]"])
    assert (config.method.objective, config.trainer.length) == ("my_loss", 7)
    assert "my_plugin" not in sys.modules
    named = [f"{one.kind}/{one.name}" for one in used_plugins(config)]
    assert named == ["methods/scaled", "objectives/my_loss", "metrics/mrr"]
    assert [one.name for one in used_plugins(config, "features")] == ["scaled"]


def test_the_list_says_which_work(package: Path, site: Path) -> None:
    broken = {"methods": {"broken": "broken_one:Method", "ez_clip": "broken_one:Method"}}
    install(site, "broken-one", broken, {"__init__.py": "import no_such_package"}, "2.0")
    found = CliRunner().invoke(app, ["plugins"])
    assert found.exit_code == 1
    lines = {line.split()[1]: line for line in found.output.splitlines()[2:]}
    assert lines["scaled"].split() == ["methods", "scaled", "my-plugin", "0.1.0", "works"]
    assert "broken-one  " in lines["broken"]
    assert "cannot be imported" in lines["broken"]
    assert "ModuleNotFoundError: No module named 'no_such_package'" in lines["broken"]
    assert "has a name of vidprompt's own" in lines["ez_clip"]


def test_without_plugins_the_list_says_so(monkeypatch: pytest.MonkeyPatch, site: Path) -> None:
    monkeypatch.setattr("vidprompt.config.plugins.entry_points", lambda: _Nothing())
    monkeypatch.syspath_prepend(site.parent)  # the list is kept for a search path
    found = CliRunner().invoke(app, ["plugins"])
    assert found.exit_code == 0
    assert "no plug-ins are installed" in found.output


class _Nothing:
    def select(self, **_: str) -> list[object]:
        return []


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import no_such_package", "cannot be imported (bad:Method: ModuleNotFoundError: No module"),
        ("raise SystemExit(3)", "cannot be imported (bad:Method: SystemExit: 3): repair or uninstall bad"),
        ("Method = 3", "is no subclass of vidprompt.models.methods.video_clip.VideoCLIP (bad:Method)"),
        ("", "AttributeError"),
    ],
)  # fmt: skip
def test_a_broken_plugin_is_a_sentence_at_its_use_and_harms_nothing_else(
    site: Path, project: Path, code: str, says: str
) -> None:
    install(site, "bad", {"methods": {"bad_one": "bad:Method"}}, {"__init__.py": code}, "1.2")
    with pytest.raises(UserError) as caught:
        create_model("bad_one", small_backbone(), num_frames=2)
    assert str(caught.value).startswith("the method bad_one of bad 1.2 ")
    assert says in str(caught.value)
    assert create_model("ez_clip", small_backbone(), num_frames=2).method == "ez_clip"
    assert compose(["method=ez_clip"]).method.name == "ez_clip"
    sys.modules.pop("bad", None)


def test_a_name_of_ours_is_ours_and_two_of_one_name_are_neither(site: Path) -> None:
    entries = {"methods": {"frozen_clip": "one:Method", "twice": "one:Method"}}
    install(site, "one", entries, {"__init__.py": "raise RuntimeError"})
    install(site, "two", {"methods": {"twice": "two:Method"}}, {"__init__.py": ""})
    assert METHODS["frozen_clip"] is FrozenCLIP
    with pytest.raises(
        UserError, match=r"two distributions bring the method twice: one 0.1.0 and two"
    ):
        create_model("twice", small_backbone(), num_frames=2)
    with pytest.raises(UserError, match="method=ez_clp: did you mean ez_clip?"):
        create_model("ez_clp", small_backbone(), num_frames=2)


# -- parameters ------------------------------------------------------------------------------------


def test_a_plugins_parameters_name_their_file_and_the_projects_own_win(
    package: Path, project: Path
) -> None:
    found = compose_values(["method=scaled"])
    shown = "my_plugin/params/method/scaled.yaml (my-plugin 0.1.0)"
    assert found.sources["method.options.gain"] == shown
    assert (
        found.sources["trainer.lr"] == "my_plugin/params/recipe/demo/scaled.yaml (my-plugin 0.1.0)"
    )
    (project / "params/method/scaled.yaml").write_text(METHOD.replace("gain: 1.0", "gain: 2.0"))
    found = compose_values(["method=scaled"])
    assert found.values["method"]["options"] == {"gain": 2.0}
    assert found.sources["method.options.gain"] == "params/method/scaled.yaml"
    assert params_names("method").count("scaled") == 1


def test_a_wrong_key_of_a_plugin_lists_the_valid_ones(package: Path, project: Path) -> None:
    with pytest.raises(UserError, match="did you mean method.options.gain"):
        compose(["method=scaled", "method.options.gian=2"])
    with pytest.raises(UserError, match="scaled does not take gian: did you mean gain"):
        create_model("scaled", small_backbone(), num_frames=2, gian=2.0)
    (package / "params/method/scaled.yaml").write_text("name: scaled\nnum_frames: [")
    with pytest.raises(UserError, match=r"my_plugin/params/method/scaled.yaml:\d is not YAML"):
        compose(["method=scaled"])


def test_two_packages_with_one_file_are_refused(package: Path, site: Path, project: Path) -> None:
    entries = {"methods": {"other": "other:Method"}}
    install(site, "other", entries, {"params/method/scaled.yaml": METHOD, "__init__.py": ""})
    with pytest.raises(
        UserError, match=r"params/method/scaled.yaml is in my-plugin 0.1.0 and other 0"
    ):
        compose(["method=scaled"])


ROWS = """source: {table: "table 3", url: "https://example.org"}
method: scaled
protocol: few_shot
dataset: ucf101
backbone: vit_b_16
ids: [few_shot/1]
rows:
  ucf101: {experiment: scaled_ucf101, values: {top1: 80.5}}
"""
PRESET = """# @package _global_
defaults: [{override /dataset: ucf101}, {override /method: scaled}, {override /trainer: demo}]
"""


def test_a_plugin_brings_published_rows_of_its_method(package: Path, project: Path) -> None:
    (package / "params/published").mkdir()
    (package / "params/experiment").mkdir()
    file = package / "params/published/scaled.yaml"
    file.write_text(ROWS)
    (package / "params/experiment/scaled_ucf101.yaml").write_text(PRESET)
    row = find_row("scaled/ucf101")
    assert (row.method, row.values["top1"].value) == ("scaled", 80.5)
    assert compose([*row.settings]).method.name == "scaled"
    assert find_row("scaled_ucf101").method == "scaled"
    file.write_text(ROWS.replace("method: scaled", "method: scald"))
    says = "method=scald is neither ours nor an installed plug-in's: did you mean scaled"
    with pytest.warns(UserWarning, match=says):
        assert "ez_clip/zero_shot/ucf101" in published_rows()
    own = project / "params/published/scaled.yaml"
    own.write_text(file.read_text())
    with pytest.raises(UserError, match=says):  # in the project it is a mistake of the user's
        published_rows()


# -- each kind -------------------------------------------------------------------------------------


def test_a_method_and_an_objective_train_together(package: Path) -> None:
    model = create_model("scaled", small_backbone(), num_frames=2, gain=3.0)
    assert (model.method, model.options) == ("scaled", {"gain": 3.0})
    prompts = PromptSet()
    objective = create_objective("my_loss", model, ["a", "b"], prompts, {"kind": "x", "mixup": 0.5})
    assert objective.kind == "x"
    with pytest.raises(UserError, match="does not take knd: did you mean kind"):
        create_objective("my_loss", model, ["a"], prompts, {"knd": "x"})
    with pytest.raises(UserError, match="objective_options.kind is 3: give a text"):
        create_objective("my_loss", model, ["a"], prompts, {"kind": 3})


def test_a_metric_is_the_mean_of_a_value_a_video(package: Path) -> None:
    table = pd.DataFrame({"rank": [0, 1, 3]})
    assert np.allclose(video_values("mrr", table), [1, 0.5, 0.25])
    assert list(METRICS)[:2] == ["top1", "top5"]
    with pytest.raises(DataError, match="the metric too_large gives"):
        video_values("too_large", table)


def test_a_reader_reads_a_source(package: Path, tmp_path: Path) -> None:
    found = read_annotations("one_video", Source("s", tmp_path))
    assert [row.video_id for row in found.annotations] == ["s/a.mp4"]
    with pytest.raises(UserError, match="the reader no_videos returns no DatasetAnnotations: list"):
        read_annotations("no_videos", Source("s", tmp_path))


def test_a_backbone_names_the_adapters_of_its_towers(site: Path) -> None:
    code = "from vidprompt.models.backbones.open_clip_towers import OpenClipImageTower\n"
    code += "class Mine(OpenClipImageTower):\n    pass\n"
    install(site, "towers", {"backbones": {"mine": "towers:Mine"}}, {"__init__.py": code})
    from tests.models.small import small_backbone as plain

    from vidprompt.contract.subject import SMALL
    from vidprompt.models.backbones.interface import ImageTower

    before = list(ImageTower.registered)
    try:
        backbone = load_backbone({**SMALL, "towers": "mine"})
        assert type(backbone.image_tower).__name__ == "Mine"
        assert backbone.spec["towers"] == "mine"
    finally:
        ImageTower.registered[:] = before
    assert type(plain().image_tower).__name__ != "Mine"
    with pytest.raises(UserError, match="backbone=main: did you mean mine?"):
        load_backbone({**SMALL, "towers": "main"})


# -- what results follow from ----------------------------------------------------------------------


def test_the_code_of_a_plugin_is_code_of_the_stages_that_use_it(
    package: Path, project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    used = used_plugins(compose(["method=scaled"]), "train")
    before = code_hash("train", used)
    assert before != code_hash("train")
    (package / "more.py").write_text("")
    code.code_hash.cache_clear()
    code.plugin_hash.cache_clear()
    assert code_hash("train", used) != before
    assert used_plugins(compose(["method=ez_clip"]), "train") == ()


def test_a_checkpoint_of_a_method_that_is_not_installed(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    model = create_model("scaled", small_backbone(), num_frames=2)
    metadata = metadata_of(model)
    metadata.plugins = {"methods/scaled": "my-plugin 0.0.9"}
    file = tmp_path / "model.safetensors"
    save_checkpoint(file, model, metadata, torch.float32)
    with pytest.warns(
        UserWarning, match="trained with my-plugin 0.0.9, and my-plugin 0.1.0 is installed"
    ):
        loaded, _ = load_checkpoint(file, small_backbone())
    assert torch.equal(loaded.gain, model.gain)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one != str(package.parent)])
    with pytest.raises(UserError) as caught:
        load_checkpoint(file, small_backbone())
    wanted = "the method scaled, a plug-in of my-plugin 0.0.9, which is not installed: pip install my-plugin"
    assert wanted in str(caught.value)


def test_dvc_sees_the_package_through_a_link(package: Path, site: Path, project: Path) -> None:
    edit(project / "params/pipeline.yaml", trained=["ez_clip", "scaled"])
    only = dict.fromkeys(("zero_shot", "base_to_novel", "few_shot", "reid"))
    edit(project / "params/dataset/demo.yaml", protocols=only)
    _, stages = matrix.activate([])
    assert str(site) not in (project / "params/stages.yaml").read_text("utf-8")
    train = stages["train"]["demo-scaled-supervised_split1"]
    assert train["method_code"] == "plugins/my_plugin"
    assert train["method_file"] == "plugins/my_plugin/params/method/scaled.yaml"
    assert train["recipe"] == "plugins/my_plugin/params/recipe/demo/scaled.yaml"
    ours = stages["train"]["demo-ez_clip-supervised_split1"]["method_code"]
    tested = stages["evaluate"]["demo-scaled-supervised"]["metric_code"]
    assert ours == tested == "src/vidprompt/pipeline/stages/__init__.py"
    link = project / "plugins/my_plugin"
    assert (link / "__init__.py").read_text("utf-8") == CODE
    assert (project / train["recipe"]).read_text("utf-8") == RECIPE
    assert (project / "plugins/.gitignore").read_text("utf-8").endswith("*\n")
    link.unlink()
    link.symlink_to(site)  # of an older installation
    renew_plugin_links(project)
    assert link.resolve() == package.resolve()
    shutil.rmtree(site / "my_plugin-0.1.0.dist-info")
    sys.path.append(str(site))  # another search path: it is read anew
    renew_plugin_links(project)
    sys.path.pop()
    assert not link.is_symlink()


def test_each_package_has_a_place_of_its_own(site: Path) -> None:
    for name in ("aa", "bb", "cc"):
        install(
            site,
            name,
            {"metrics": {f"{name}_1": f"{name}:A", f"{name}_2": f"{name}:B"}},
            {"__init__.py": ""},
        )
    used = [one for one in plugins("metrics") if one.package in ("aa", "bb")]
    assert plugin_code("code", 2, used, "it") == {"code": "plugins/aa", "code_2": "plugins/bb"}
    places = list(plugin_code("code", 3, used[:2], "it").values())
    assert places[0] == "plugins/aa"
    assert len(set(places)) == 3
    assert all((ROOT / place).read_text("utf-8") == "" for place in places[1:])
    with pytest.raises(
        UserError, match=r"it uses plug-ins of aa 0.1.0 and bb 0.1.0: dvc.yaml has pl"
    ):
        plugin_code("code", 1, used, "it")


@pytest.mark.slow
def test_the_packages_of_all_plugins_of_a_stage_are_seen(site: Path, project: Path) -> None:
    """A method, an objective, a backbone and metrics, each of a package of its own."""
    from dvc.repo import Repo

    metric = CODE.split("class Scaled")[0]
    model = (
        "from vidprompt.models.backbones.clip_model import CLIPModel\nclass C(CLIPModel): pass\n"
    )
    kinds = {"aa": ("methods", "scaled", CODE), "bb": ("objectives", "my_loss", CODE)}
    kinds |= {"cc": ("backbones", "my_clip", model)}
    kinds |= {name: ("metrics", f"metric_{name}", metric) for name in ("dd", "ee", "ff", "gg")}
    parts = {"methods": "Scaled", "objectives": "Loss", "backbones": "C", "metrics": "Metric"}
    for name, (kind, plugin, text) in kinds.items():
        files = {"__init__.py": text}
        if kind == "methods":
            files |= {"params/method/scaled.yaml": METHOD}
        if kind == "backbones":
            files |= {"params/backbone/my_clip.yaml": "name: my_clip\nloader: my_clip\n"}
        install(site, name, {kind: {plugin: f"{name}:{parts[kind]}"}}, files)
    edit(project / "params/pipeline.yaml", trained=["scaled"])
    only = dict.fromkeys(("zero_shot", "base_to_novel", "few_shot", "reid"))
    edit(project / "params/dataset/demo.yaml", protocols=only, pipeline__backbone="my_clip")
    edit(project / "params/config.yaml", metrics=["metric_dd", "metric_ee", "metric_ff"])
    _, stages = matrix.activate([])
    train = stages["train"]["demo-scaled-supervised_split1"]
    assert (train["method_code"], train["method_code_2"]) == ("plugins/aa", "plugins/bb")
    dataset, tested = stages["dataset"]["demo"], stages["evaluate"]["demo-scaled-supervised"]
    assert dataset["backbone_code"] == "plugins/cc"
    metrics = [tested[key] for key in ("metric_code", "metric_code_2", "metric_code_3")]
    assert metrics == ["plugins/dd", "plugins/ee", "plugins/ff"]
    places = [dataset[key] for key in ("reader_code", "reader_code_2", "reader_code_3")]
    assert len(set(places)) == 3
    assert all((ROOT / place).read_text("utf-8") == "" for place in places)
    config = compose(["dataset=demo", "method=scaled"])
    used = used_plugins(config, "train")
    assert [one.package for one in used] == ["aa", "cc", "bb"]
    (project / "dvc.yaml").write_text(
        "vars: [params/stages.yaml]\nstages:\n  train:\n    foreach: ${train}\n    do:\n      cmd: 'true'\n"
        "      deps: ['${item.method_code}', '${item.method_code_2}']\n"
    )
    Repo.init(project, no_scm=True)
    with Repo(project) as repo:
        repo.reproduce()
        assert repo.status() == {}
    before = code_hash("train", used)
    for name in ("aa", "bb", "cc"):
        (site / name / "more.py").write_text("")
        code.code_hash.cache_clear()
        code.plugin_hash.cache_clear()
        before, last = code_hash("train", used), before
        assert before != last
        with Repo(project) as repo:
            changed = str(repo.status())
            assert (f"plugins/{name}" in changed) == (name != "cc")  # of the stage backbone
    edit(
        project / "params/config.yaml", metrics=["metric_dd", "metric_ee", "metric_ff", "metric_gg"]
    )
    with pytest.raises(
        UserError, match=r"metrics uses plug-ins of dd 0.1.0 and .*: dvc.yaml has places for 3"
    ):
        matrix.activate([])


def test_a_method_with_nothing_to_train_is_not_trained(package: Path, project: Path) -> None:
    file = package / "params/method/scaled.yaml"
    file.write_text(METHOD.replace("objective: my_loss", "objective: null"))
    content = {"active": ["demo"], "trained": ["scaled"]}
    with pytest.raises(UserError, match="scaled has no objective, so nothing to train"):
        matrix.stages_of(["demo"], content)
    config = compose(["method=scaled"])
    assert config.method.encoding_of("supervised_split1") == "frozen"


def test_the_names_of_our_methods_are_those_of_the_registry() -> None:
    assert set(names.METHODS) == set(METHODS.own)
