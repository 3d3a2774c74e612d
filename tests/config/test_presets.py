"""Published presets: they compose, name keys that exist, and say what was published."""

import math
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from vidprompt.config.compose import compose
from vidprompt.config.names import FLOOR, METHODS
from vidprompt.models.backbones.loading import load_backbone
from vidprompt.models.factory import configured_model
from vidprompt.pipeline.matrix import stages_of
from vidprompt.training.settings import TrainerSettings, trainer_settings

ROOT = Path(__file__).parents[2]
PARAMS = ROOT / "params"
PUBLISHED = ("released", "paper")
FREE = ("multirun", "trainer.lr_scale")  # whose keys are the user's


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def read(file: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((PARAMS / file).read_text("utf-8"))
    return content


def choices(experiment: str) -> dict[str, str]:
    """Group → file, as an experiment overrides them."""
    listed = read(f"experiment/{experiment}.yaml").get("defaults", [])
    return {group.removeprefix("override /"): name for one in listed for group, name in one.items()}


EXPERIMENTS = sorted(file.stem for file in (PARAMS / "experiment").glob("*.yaml"))
PRESETS = [name for name in EXPERIMENTS if choices(name).get("trainer") in PUBLISHED]
RECIPES = [f"{trainer}/{method}" for trainer in PUBLISHED for method in METHODS if method != FLOOR]


def leaves(node: Mapping[str, Any], inside: str = "") -> Iterator[str]:
    for key, value in node.items():
        if isinstance(value, dict) and f"{inside}{key}" not in FREE:
            yield from leaves(value, f"{inside}{key}.")
        else:
            yield f"{inside}{key}"


def known(method: str, protocol: str) -> set[str]:
    """All keys that a preset of a method and a protocol may set."""
    groups = {
        "trainer": read("trainer/demo.yaml"),
        "method": read(f"method/{method}.yaml"),
        "protocol": read(f"protocol/{protocol}.yaml"),
        "prompts": read("prompts/class_name.yaml"),
    }
    keys = set(leaves(read("config.yaml") | groups))
    by_protocol = {
        f"trainer.by_protocol.{name.stem}.{key.removeprefix('trainer.')}"
        for name in (PARAMS / "protocol").glob("*.yaml")
        for key in keys
        if key.startswith("trainer.")
    }
    inside = {"trainer.augmentation.rand_augment." + key for key in RAND_AUGMENT}
    return keys | by_protocol | inside


RAND_AUGMENT = ("layers", "magnitude", "std", "probability")


def protocol_of(split: str) -> str:
    names = [file.stem for file in (PARAMS / "protocol").glob("*.yaml")]
    return next((name for name in names if split.startswith(name)), "supervised")


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_sets_keys_that_are_there(experiment: str) -> None:
    content = read(f"experiment/{experiment}.yaml")
    content.pop("defaults", None)
    chosen = choices(experiment)
    protocol = chosen.get("protocol", protocol_of(content.get("split", "")))
    assert set(leaves(content)) <= known(chosen.get("method", "ez_clip"), protocol)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_sets_keys_that_are_there(recipe: str) -> None:
    content = read(f"recipe/{recipe}.yaml")
    content.pop("defaults", None)
    assert set(leaves(content)) <= known(recipe.split("/")[1], "supervised")


@cache
def composed(experiment: str) -> Any:
    return compose([f"experiment={experiment}"])


@pytest.mark.parametrize("experiment", [one for one in PRESETS if "frozen" not in one])
def test_a_preset_leaves_no_number_open(experiment: str) -> None:
    config = composed(experiment)
    assert "???" not in str(config.values["trainer"])
    assert config.protocol.name == choices(experiment).get("protocol", protocol_of(config.split))
    backbone = choices(experiment).get("backbone", "vit_b_16")
    assert config.backbone.name == read(f"backbone/{backbone}.yaml")["name"]


def test_what_a_dataset_trains_without_an_experiment_is_the_released_recipe() -> None:
    for method in ("ez_clip", "vita_clip"):
        config = compose(["dataset=ssv2", f"method={method}"])
        assert "???" not in str(config.values["trainer"])
        assert config.trainer.lr == read(f"recipe/released/{method}.yaml")["trainer"]["lr"]


def trained(experiment: str, classes: int = 400) -> int:
    """Trainable parameters of a preset's model, of shapes alone."""
    config = composed(experiment)
    shape = {**vars(config.backbone), "weights": None, "pretrained": None}
    with torch.device("meta"):
        names = [f"class {i}" for i in range(classes)]
        model = configured_model(config, names, load_backbone(shape))
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_the_published_numbers_of_trainable_parameters() -> None:
    assert trained("ez_clip_k400") == trained("ez_clip_k400@paper") == 5_204_736
    prompts = 12 * 8 * 768  # off as released: configs/few_shot/hmdb_base_fs.yaml
    assert trained("ez_clip_hmdb51_few_shot") == 5_204_736 - prompts
    assert trained("vita_clip_k400") / 1e6 == pytest.approx(30.2, abs=0.05)
    assert trained("vita_clip_k400@paper") / 1e6 == pytest.approx(38.9, abs=0.05)
    assert trained("vifi_clip_k400") == 149_620_736
    # rank 2 of three matrices in 12 layers of width 768 and 12 of width 512
    assert trained("clip_lora_ucf101_few_shot") == 12 * 3 * 2 * 2 * (768 + 512)
    assert trained("vl_prompting_hmdb51_base_to_novel") == 9 * 16 * (768 + 512)
    assert trained("vl_prompting_hmdb51_few_shot") == 12 * 10 * (768 + 512)


@pytest.mark.parametrize(
    ("experiment", "lr", "batch", "length", "sampling"),
    [
        ("ez_clip_k400", 1e-4, 80, "150 epochs", "segment"),
        ("ez_clip_k400@paper", 5e-5, 70, "50 epochs", "segment"),
        ("ez_clip_k400_base_to_novel", 5e-6, 50, "100 epochs", "centre"),
        ("ez_clip_hmdb51_base_to_novel", 1e-4, 20, "50 epochs", "centre"),
        ("ez_clip_ucf101_base_to_novel", 1e-5, 60, "50 epochs", "centre"),
        ("ez_clip_ssv2_base_to_novel", 1e-5, 50, "100 epochs", "centre"),
        ("ez_clip_base_to_novel@paper", 5e-5, 70, "50 epochs", "segment"),
        ("ez_clip_hmdb51_few_shot", 1e-4, 10, "180 epochs", "centre"),
        ("ez_clip_ucf101_few_shot", 1e-4, 4, "100 epochs", "centre"),
        ("ez_clip_ssv2_few_shot", 1e-4, 75, "50 epochs", "centre"),
        ("ez_clip_few_shot@paper", 5e-5, 70, "50 epochs", "segment"),
        ("vita_clip_k400", 4e-4, 256, "30000 steps", "dense"),
        ("vita_clip_k400@paper", 4e-4, 256, "30 epochs", "dense"),
    ],
)
def test_the_published_schedules(
    experiment: str, lr: float, batch: int, length: str, sampling: str
) -> None:
    trainer = composed(experiment).trainer
    assert (trainer.lr, trainer.batch_size, trainer.length) == (lr, batch, length)
    assert (trainer.sampling, trainer.schedule, trainer.clip_grad) == (sampling, "cosine", None)
    ez = experiment.startswith("ez_clip")
    assert (trainer.weight_decay, trainer.no_decay) == (0.2 if ez else 0.05, ())
    assert trainer.betas == ((0.9, 0.98) if ez else (0.9, 0.999))
    assert trainer.warmup == ("5 epochs" if ez else 0)
    assert (trainer.precision == "fp16_weights") == (ez and "paper" not in experiment)


@pytest.mark.parametrize(
    ("experiment", "lr", "batch", "length"),
    [
        ("vifi_clip_k400", 8e-6, 256, "10 epochs"),
        ("vifi_clip_k400@supervised", 2.2e-5, 512, "30 epochs"),
        ("vifi_clip_hmdb51_base_to_novel", 2e-6, 64, "11 epochs"),
        ("vifi_clip_ssv2_few_shot", 2e-6, 64, "50 epochs"),
        ("vl_prompting_ucf101_base_to_novel", 4e-2, 64, "11 epochs"),
        ("vl_prompting_hmdb51_few_shot", 8e-3, 64, "50 epochs"),
    ],
)
def test_vifi_clips_published_schedules_in_both_stages(
    experiment: str, lr: float, batch: int, length: str
) -> None:
    config, trainer = composed(experiment), composed(experiment).trainer
    assert (trainer.lr, trainer.batch_size, trainer.length) == (lr, batch, length)
    assert (trainer.warmup, trainer.lr_end, trainer.schedule) == ("5 epochs", 0.01, "cosine")
    assert (trainer.weight_decay, trainer.no_decay, trainer.betas) == (0.001, (), (0.9, 0.98))
    assert config.method.objective_options["mixup"] == 0.8
    second = config.method.name == "vl_prompting"
    assert trainer.start_from == ("kinetics400/vifi_clip/supervised_split1" if second else None)
    assert config.method.num_frames == (16 if "supervised" in experiment else 32)


def test_the_published_numbers_of_few_shot_methods() -> None:
    lora, tip = (composed(f"{name}_ucf101_few_shot") for name in ("clip_lora", "tip_adapter_f"))
    assert (lora.trainer.lr, lora.trainer.lr_end, lora.trainer.batch_size) == (2e-4, 0.005, 32)
    assert (lora.trainer.weight_decay, lora.trainer.betas) == (0.01, (0.9, 0.999))
    for shots in (2, 16):  # 500 steps for each video a class
        found = settings("clip_lora_ucf101_few_shot", 101 * shots)
        assert found.steps == pytest.approx(500 * shots, rel=1e-3)
    assert (tip.trainer.lr, tip.trainer.eps, tip.trainer.length) == (1e-3, 1e-4, "20 epochs")
    assert tip.method.options["search"] == [7, 3]
    assert tip.protocol.held_out == 4
    assert composed("tip_adapter_ucf101_few_shot").trainer.length == 0


def settings(experiment: str, videos: int) -> TrainerSettings:
    trainer = composed(experiment).trainer
    return trainer_settings(trainer, videos=videos, batch_size=trainer.batch_size, seed=1)


def test_epochs_become_steps() -> None:
    videos = 240_000  # about as many as Kinetics-400 has left
    released, paper = (settings(f"ez_clip_k400{end}", videos) for end in ("", "@paper"))
    assert (released.steps, released.warmup) == (450_000, 15_000)
    assert (paper.steps, paper.warmup) == (math.ceil(50 * videos / 70), math.ceil(5 * videos / 70))
    assert settings("vita_clip_k400", videos).steps == 30_000
    assert settings("vita_clip_k400@paper", videos).steps == pytest.approx(30_000, rel=0.1)
    assert settings("ez_clip_hmdb51_base_to_novel", 26 * 70).steps == 50 * 91


def test_the_published_augmentations() -> None:
    ez = composed("ez_clip_k400").trainer.augmentation
    assert list(ez.scales) == [1.0, 0.875, 0.75, 0.66]
    assert (ez.distort, ez.fixed_places, ez.flip) == (1, True, True)
    assert (ez.jitter, list(ez.jitter_strength), ez.greyscale) == (0.8, [0.4, 0.4, 0.2, 0.1], 0.2)
    assert (ez.rand_augment, ez.area, ez.channels) == (None, None, 0.0)
    vita = composed("vita_clip_k400").trainer.augmentation
    published = {"layers": 4, "magnitude": 7, "std": 0.5, "probability": 0.5}
    assert (vita.rand_augment, vita.area, vita.flip) == (published, (0.08, 1.0), False)
    assert (vita.jitter, vita.greyscale) == (0.0, 0.0)
    for name in ("ez_clip_ccvid", "vita_clip_ccvid"):  # whole persons
        reid = composed(name).trainer.augmentation
        assert (reid.rand_augment, reid.area, list(reid.scales), reid.distort) == (
            None, None, [1.0], 0
        )  # fmt: skip


def test_the_published_recipe_of_re_identification() -> None:
    config = composed("ez_clip_ccvid@csci")
    trainer, protocol, cut = config.trainer, config.protocol, config.trainer.augmentation
    assert (trainer.optimizer, trainer.momentum, trainer.weight_decay) == ("sgd", 0.9, 0.05)
    assert (trainer.lr, trainer.lr_scale["biases"], trainer.no_decay) == (2e-5, 2.0, ())
    lengths = (trainer.length, trainer.warmup, trainer.warmup_start, trainer.schedule)
    assert lengths == ("60 epochs", "20 epochs", 0.01, "cosine")
    assert (config.method.num_frames, trainer.sampling, trainer.stride) == (4, "dense", 4)
    batch = (protocol.people_per_batch, protocol.tracklets_per_person)
    assert (batch, protocol.tracklet) == ((8, 2), "all-frames-4")
    losses = (protocol.head, protocol.margin, protocol.triplet_weight, protocol.motion_weight)
    assert losses == ("linear", None, 1.0, 1.0)
    assert protocol.image_model.length == "60 epochs"
    assert (cut.flip, cut.erase, list(cut.scales)) == (True, 0.5, [1.0, 0.8889])
    assert (cut.jitter, cut.channels, cut.greyscale) == (0.0, 0.0, 0.0)
    # all of the image tower (304.1 million), 24 layers × 4 prompts of 1024, and nothing else
    assert config.backbone.name == "EVA02-L-14"
    tower = trained("ez_clip_ccvid@csci") - 24 * 4 * 1024
    assert tower / 1e6 == pytest.approx(304.1, abs=0.05)


def test_todays_recipe_is_the_default() -> None:
    protocol = composed("ez_clip_ccvid").protocol
    assert (protocol.head, protocol.margin, protocol.motion_weight) == ("context", 0.3, 0.0)
    assert protocol.triplet_normalised
    assert protocol.image_model.length == 0
    assert composed("ez_clip_ccvid").trainer.optimizer == "adamw"


def test_the_page_on_presets_names_all_of_them_and_no_other() -> None:
    page = (ROOT / "docs/presets.md").read_text("utf-8")
    named = set(re.findall(rf"`((?:{'|'.join(METHODS)})_[a-z0-9_]+(?:@[a-z0-9_]+)?)`", page))
    assert named - set(METHODS) == set(PRESETS)
    assert set(re.findall(r"experiment=([a-z][\w@]*)", page)) <= set(PRESETS)


def test_the_page_of_ccvid_follows_the_configuration() -> None:
    page = (ROOT / "docs/datasets/ccvid.md").read_text("utf-8")
    protocol = compose(["dataset=ccvid", "method=ez_clip", "split=reid"]).protocol
    for name in protocol.protocols:
        assert f"| `reid/ccvid/{name}@{protocol.tracklet}` |" in page
    batch = f"{protocol.people_per_batch} people × {protocol.tracklets_per_person} tracklets"
    assert f"batches of\n{batch}" in page
    for preset in ("ez_clip_ccvid", "vita_clip_ccvid"):
        assert vars(composed(preset).protocol) == vars(protocol)
    published = composed("ez_clip_ccvid@csci").protocol
    batch = f"{published.people_per_batch} people × {published.tracklets_per_person} tracklets"
    assert f"| Batch | {batch}" in page
    assert f"`reid/ccvid/general@{published.tracklet}`" in page


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs/datasets").glob("*.md")), ids=lambda page: page.stem
)
def test_the_counts_of_trainings_on_a_page_are_those_of_the_configuration(page: Path) -> None:
    pattern = r"^(\w+): (\d+) trainings, (\d+) evaluations$"
    said = {
        name: (int(a), int(b)) for name, a, b in re.findall(pattern, page.read_text("utf-8"), re.M)
    }
    stages = stages_of(list(said), read("pipeline.yaml"))

    def count(dataset: str, *kinds: str) -> int:
        return sum(key.split("-")[0] == dataset for kind in kinds for key in stages[kind])

    found = {name: (count(name, "train"), count(name, "evaluate", "reid")) for name in said}
    assert found == said
