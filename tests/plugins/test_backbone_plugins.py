"""A whole model that open_clip does not build, as docs/tutorials/add-a-backbone.md has it in a package."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from tests.docs.pages import blocks
from tests.pipeline.project import edit
from tests.plugins.packages import install
from tests.registry import project as registered
from typer.testing import CliRunner

from vidprompt import registry
from vidprompt.cli.main import app
from vidprompt.config.compose import compose
from vidprompt.config.plugins import used_plugins
from vidprompt.contract import check_method
from vidprompt.contract.subject import SMALL
from vidprompt.files.hashes import sha256
from vidprompt.models.backbones.loading import load_backbone
from vidprompt.models.backbones.towers import BACKBONES
from vidprompt.models.checkpoint import load_checkpoint, save_checkpoint
from vidprompt.models.checkpoint_metadata import CheckpointMetadata
from vidprompt.models.factory import create_model
from vidprompt.models.text.prompts import PromptSet
from vidprompt.prediction.loading import load
from vidprompt.registry.registration import register
from vidprompt.system.errors import UserError
from vidprompt.training.objectives import CrossEntropy

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/tutorials/add-a-backbone.md"
NAMES = ["opening a door", "closing a door"]
SPEC = {"name": "plain_clip", "loader": "plain_clip", "options": {"features": 32}}


@pytest.fixture
def site(site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages."""
    monkeypatch.setattr(BACKBONES, "_loaded", {})  # of packages of this name elsewhere
    return site


@pytest.fixture
def package(site: Path) -> Any:
    """The page's package, installed."""
    found = blocks(PAGE)
    files = {
        b.file.removeprefix("plain_clip/"): b.content for b in found if "plain_clip/" in b.file
    }
    content = tomllib.loads(next(b.content for b in found if b.language == "toml"))["project"]
    groups = {g.removeprefix("vidprompt."): e for g, e in content["entry-points"].items()}
    yield install(site, content["name"], groups, files, content["version"])
    for name in [one for one in sys.modules if one.partition(".")[0] == "plain_clip"]:
        del sys.modules[name]


def test_its_features_are_the_models_own_and_both_methods_train_on_it(package: Path) -> None:
    backbone = load_backbone(SPEC)
    clips, tokens = torch.randn(2, 4, 3, 32, 32), backbone.tokenizer(NAMES)
    model = create_model("frozen_clip", backbone, num_frames=4).eval()
    with torch.no_grad():
        frames, text = model.encode_video(clips)[0], model.encode_text(tokens)
        images, texts = backbone.clip.visual(clips.flatten(0, 1)), backbone.clip.text(tokens)
    assert torch.allclose(frames.flatten(0, 1), images, atol=1e-5)
    assert torch.allclose(text, texts, atol=1e-5)
    assert (backbone.image_size, backbone.mean, backbone.tag) == (32, (0.5, 0.5, 0.5), "plain_clip")
    for method in ("ez_clip", "vita_clip", "vifi_clip"):
        model = create_model(method, backbone, num_frames=4, class_names=NAMES)
        objective = CrossEntropy(model, NAMES, PromptSet()).train()
        objective(clips, torch.tensor([0, 1]))["loss"].backward()
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        assert named
        assert not [name for name, p in named if p.grad is None]
        ours = {id(p) for p in backbone.clip.parameters()}
        assert not [name for name, p in named if id(p) in ours]
    quick = ["shapes", "state round trip", "meta device"]
    assert not [
        one.line for one in check_method("ez_clip", backbone=SPEC, only=quick) if one.failed
    ]


def test_a_project_chooses_it_beside_a_broken_one_and_commands_list_it(
    package: Path, site: Path, project: Path
) -> None:
    files = {"__init__.py": "import no", "params/backbone/bad.yaml": "name: bad\nloader: bad\n"}
    install(site, "bad", {"backbones": {"bad": "bad:Bad"}}, files)
    assert compose(["backbone=bad"]).backbone.loader == "bad"
    assert load_backbone(SMALL).image_size == 32
    config = compose(["backbone=plain_clip", "backbone.options.features=48"])
    assert [one.origin for one in used_plugins(config, "train")] == ["plain-clip 0.1.0"]
    assert load_backbone(vars(config.backbone)).image_tower.feature_width == 48
    with pytest.raises(UserError, match=r"did you mean backbone.options.features"):
        compose(["backbone=plain_clip", "backbone.options.feature=48"])
    listed = json.loads(CliRunner().invoke(app, ["backbones", "--json"]).output)
    row = next(one for one in listed if one["file"] == "plain_clip")
    assert (row["model"], row["plugin"]) == ("plain_clip", "plain-clip 0.1.0")
    done = CliRunner().invoke(app, ["parameters", "method=ez_clip", "backbone=plain_clip"])
    assert done.exit_code == 0, done.output
    assert "CLIP text tower" in done.output
    assert "plain_clip (plain-clip 0.1.0)" in CliRunner().invoke(app, ["backbones"]).output


def test_a_checkpoint_records_it_and_loads_again(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "plain.safetensors"
    save_file(load_backbone(SPEC).clip.state_dict(), weights)
    backbone = load_backbone({**SPEC, "weights": str(weights)})
    assert backbone.checksum == sha256(weights)
    model = create_model("vita_clip", backbone, num_frames=4, class_names=NAMES)
    spec = json.loads(json.dumps(dict(backbone.spec)))
    assert (spec["plugin"], spec["options"]) == ("plain-clip 0.1.0", {"features": 32})
    metadata = CheckpointMetadata(
        "vita_clip", 4, backbone.tag, backbone.identity(), NAMES, dict(model.options),
        backbone_spec=spec,
    )  # fmt: skip
    (tmp_path / "run").mkdir()
    file = tmp_path / "run/model.safetensors"
    save_checkpoint(file, model, metadata, torch.float32)
    clips = torch.randn(1, 4, 3, 32, 32)
    with torch.no_grad():
        features = load(file, "cpu").encoder.encode_video(clips)[1]
        assert torch.equal(features, model.eval().encode_video(clips)[1])
    state = {name: value + 1 for name, value in backbone.clip.state_dict().items()}
    save_file(state, weights)
    with pytest.raises(UserError, match="was trained on backbone plain_clip"):
        load_checkpoint(file, load_backbone({**SPEC, "weights": str(weights)}))
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one != str(package.parent)])
    wanted = "the backbone plain_clip is a plug-in of plain-clip 0.1.0, which is not installed: pip install"
    with pytest.raises(UserError, match=wanted):
        load_backbone(spec)


CLASS = """
import torch
from vidprompt.models.backbones.clip_model import CLIPModel
from vidprompt.models.backbones.open_clip_towers import OpenClipImageTower
class Bad(CLIPModel):
    def image_tower(self): return None
    def text_tower(self): return None
"""


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import no_such_package", "cannot be imported (bad:Bad: ModuleNotFoundError: No module named"),
        ("Bad = print", "is no subclass of ImageTower or TextTower"),
        (CLASS, "cannot be built: it has no `visual`"),
        (f"{CLASS}    visual = torch.nn.Identity()", "cannot be built: NoneType is no ImageTower"),
        (f"{CLASS}    def __init__(self): 1 / 0", "cannot be built: ZeroDivisionError: division by zero"),
        (f"{CLASS}Bad = OpenClipImageTower", "is an adapter of towers: name it by backbone.towers"),
    ],
)  # fmt: skip
def test_a_broken_one_is_a_sentence(site: Path, code: str, says: str) -> None:
    install(site, "bad", {"backbones": {"bad": "bad:Bad"}}, {"__init__.py": code}, "1.2")
    with pytest.raises(UserError, match=rf"^the backbone bad of bad 1.2 {re.escape(says)}"):
        load_backbone({"name": "bad", "loader": "bad"})
    sys.modules.pop("bad", None)


def test_wrong_parameters_are_sentences(package: Path, tmp_path: Path) -> None:
    wrong = {
        "does not take feature: did you mean features?": {"options": {"feature": 3}},
        "cannot be built: ": {"options": {"size": "large"}},
        "backbone.config is of models that open_clip builds": {"config": "a.json"},
        "it has no weights 'first': set backbone.weights to a file": {"pretrained": "first"},
        "no backbone file": {"weights": str(tmp_path / "none.safetensors")},
        "backbone=plain_clp: did you mean plain_clip?": {"loader": "plain_clp"},
        "is a whole model: name it by backbone.loader": {
            "loader": None, "towers": "plain_clip", "options": {},
        },
        "backbone.options are of a plug-in that builds a model": {"loader": None},
    }  # fmt: skip
    for says, part in wrong.items():
        with pytest.raises(UserError, match=re.escape(says)):
            load_backbone({**SPEC, **part})
    other = tmp_path / "other.safetensors"
    save_file({"visual.x": torch.zeros(1)}, other)
    with pytest.raises(UserError, match=r"other.safetensors does not fit plain_clip: "):
        load_backbone({**SPEC, "weights": str(other)})


def test_it_may_have_a_tokenizer_of_its_own_and_weights_of_a_name(package: Path) -> None:
    code = (package / "__init__.py").read_text("utf-8")
    code += """
    def tokenizer(self):
        return lambda texts, length: torch.tensor(
            [[1, *map(ord, text[: length - 2]), 400, *[0] * length][:length] for text in texts]
        )

    def weights_file(self, pretrained):
        from pathlib import Path
        return Path(__file__).parent / f"{pretrained}.safetensors"
"""
    (package / "__init__.py").write_text(code, "utf-8")
    backbone = load_backbone(SPEC)
    tokenizer = backbone.tokenizer
    assert tokenizer("ab").tolist()[0] == [1, 97, 98, 400] + 28 * [0]
    assert (tokenizer.start, tokenizer.end, tokenizer.pad) == ((1,), (400,), 0)
    assert tokenizer.own_ids(tokenizer("ab").tolist()[0]) == [97, 98]
    save_file(backbone.clip.state_dict(), package / "first.safetensors")
    named = load_backbone({**SPEC, "pretrained": "first"})
    assert (named.tag, named.checksum) == (
        "plain_clip:first",
        sha256(package / "first.safetensors"),
    )
    assert load_backbone(named.spec).checksum == named.checksum


@pytest.mark.slow
def test_a_registered_model_on_it_loads_again(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backbone's parameters are the package's, its weights the project's; loaded in a clone."""
    file = package / "params/backbone/plain_clip.yaml"
    weights = "data/backbone/plain.safetensors"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"weights": weights}))
    root = tmp_path / "made"
    root.mkdir()
    registered.make_project(root)
    edit(root / "params/dataset/demo.yaml", pipeline__backbone="plain_clip")
    monkeypatch.chdir(root)
    save_file(load_backbone(SPEC | {"options": {}}).clip.state_dict(), root / weights)
    backbone = load_backbone(vars(compose(["dataset=demo"]).backbone))
    model = create_model("ez_clip", backbone, num_frames=4, class_names=registered.CLASSES)
    metadata = CheckpointMetadata(
        "ez_clip", 4, backbone.tag, backbone.identity(), registered.CLASSES, dict(model.options),
        "abc", "0.1", backbone_spec=dict(backbone.spec),
    )  # fmt: skip
    save_checkpoint(root / registered.WEIGHTS, model, metadata, torch.float32)
    registered.evaluate(root, wrong=range(6))
    registered.keep(root, "on a plug-in's backbone")
    assert register(registered.NAME, "candidate").version.version == "v0.1.0"
    clips = torch.randn(1, 4, 3, 32, 32)
    with torch.no_grad():
        expected = model.eval().encode_video(clips)[1]
        for loaded in (
            registry.load(f"{registered.NAME}@candidate"),
            load(f"{registered.NAME}@candidate", "cpu").encoder,
        ):
            assert torch.equal(loaded.encode_video(clips)[1], expected)
