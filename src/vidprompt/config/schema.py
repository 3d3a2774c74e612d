"""The types of the configuration: one dataclass for each group of params/, and `Config` for all of them.

A composed configuration is checked once, where a command begins: names of keys, types and ranges.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal

from vidprompt.config.build import REST, Range, build
from vidprompt.config.names import FROZEN, PROTOCOLS
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import suggestion

Whole = Annotated[int, Range(0)]
Count = Annotated[int, Range(1)]
NotNegative = Annotated[float, Range(0)]
Fraction = Annotated[float, Range(0, 1)]
BelowOne = Annotated[float, Range(0, 1, high_excluded=True)]
Positive = Annotated[float, Range(0, low_excluded=True)]
Length = int | float | str  # `400`, `400 steps` or `5 epochs`


@dataclass(frozen=True)
class SourceConfig:
    """Videos with annotations of one kind: which reader reads them, in which folder below the root."""

    reader: str
    folder: str = "."
    options: Mapping[str, Any] = field(default_factory=dict, metadata={REST: True})


@dataclass(frozen=True)
class PublishedList:
    """A split that is taken from lists as they are: part (train, val or a test's name) → file.

    `label_map`: one file for all parts, or part → file.
    """

    id: str
    lists: Mapping[str, str]
    trained_on: str | None = None
    label_map: str | Mapping[str, str] | None = None


@dataclass(frozen=True)
class ValidationConfig:
    """What a dataset is expected to be: counts, and ranges of its videos' measures."""

    max_broken_share: Fraction
    ranges: Mapping[str, tuple[float | None, ...]]
    severity: Mapping[str, str]
    expected: Mapping[str, int]


@dataclass(frozen=True)
class DatasetConfig:
    """A dataset (params/dataset)."""

    name: str
    root: str
    min_frames: Count
    probe: Literal["decode", "stat"]
    probe_timeout_s: Positive
    probe_memory_mb: Count
    probe_max_pixels: Count
    sources: Mapping[str, SourceConfig]
    mirror: bool  # may clips be mirrored in training?
    roles: Mapping[str, str]  # part in the protocols → source
    protocols: Mapping[str, Mapping[str, Any] | None]  # its own numbers; None: it takes no part
    published: tuple[PublishedList, ...]
    validation: ValidationConfig
    # group → its file, or method → its file
    pipeline: Mapping[str, Any] = field(default_factory=dict)
    archives: str | None = None  # a folder of tar files; the stage unpack writes root from it
    class_groups: str | None = None  # a CSV of classes by attribute, in each source's folder
    described_as: str | None = (
        None  # the dataset whose descriptions its classes have; None: its own
    )
    mosaic: bool | None = None  # pixelated faces in the report; None: unless it is the demo


@dataclass(frozen=True)
class BackboneConfig:
    """A CLIP (params/backbone), as `load_backbone` takes it."""

    name: str
    pretrained: str | None = None
    config: str | None = None
    weights: str | None = None
    image_size: Count | None = None
    quick_gelu: bool | None = None
    tokenizer: str | None = None
    towers: str | None = None  # a plug-in of the kind backbones, whose adapters take its towers
    loader: str | None = None  # or one that builds the whole model, with `options`
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BackboneTraining:
    """What of CLIP a method trains, in a copy of it: some of `MethodConfig.options` (docs/training.md)."""

    train_backbone: Literal["none", "last_n", "all", "lora"] = "none"
    trained_towers: Literal["image", "text", "both"] = "both"
    trained_blocks: Count = 2  # n of last_n
    lora_rank: Count = 8
    lora_alpha: Positive = (
        16.0  # the product of LoRA's matrices is multiplied by lora_alpha / lora_rank
    )
    lora_scaling: Literal["rank", "sqrt_rank"] = "rank"  # or by lora_alpha / √lora_rank
    lora_matrices: Literal["all", "qkv"] = "all"  # of a block; qkv: each with a product of its own
    lora_dropout: BelowOne = 0.0  # of what LoRA's matrices are multiplied with; qkv only

    def __post_init__(self) -> None:
        if self.lora_dropout and self.lora_matrices == "all":
            raise UserError(
                f"lora_dropout={self.lora_dropout:g} needs lora_matrices=qkv: the inputs of the other "
                "matrices are not seen"
            )

    @property
    def lora_scale(self) -> float:
        """The factor of LoRA's products."""
        rank = self.lora_rank if self.lora_scaling == "rank" else self.lora_rank**0.5
        return self.lora_alpha / rank

    @classmethod
    def of(cls, options: Mapping[str, Any], where: str = "") -> BackboneTraining:
        """Of a method's options, by name. Raises UserError for a value that is not valid."""
        names = cls.__dataclass_fields__
        return build(cls, {key: value for key, value in options.items() if key in names}, where)

    @property
    def trains_image(self) -> bool:
        """True if weights of the image tower are trained."""
        return self.train_backbone != "none" and self.trained_towers != "text"

    @property
    def trains_text(self) -> bool:
        """True if weights of the text tower are trained."""
        return self.train_backbone != "none" and self.trained_towers != "image"

    def describe(self) -> str:
        """`the last 2 blocks of both towers`."""
        towers = (
            "both towers" if self.trained_towers == "both" else f"the {self.trained_towers} tower"
        )
        if self.train_backbone == "lora":
            of = "queries, keys and values of " if self.lora_matrices == "qkv" else ""
            return f"LoRA of rank {self.lora_rank} in {of}{towers}"
        if self.train_backbone == "last_n":
            last = (
                "last block" if self.trained_blocks == 1 else f"last {self.trained_blocks} blocks"
            )
            return f"the {last} of {towers}"
        return towers if self.train_backbone == "all" else "none of CLIP"


@dataclass(frozen=True)
class MethodConfig:
    """A method (params/method): its options and its objective's; `objective` None: nothing to train."""

    name: str
    num_frames: Count
    options: Mapping[str, Any] = field(default_factory=dict)
    objective: str | None = None
    objective_options: Mapping[str, Any] = field(default_factory=dict)
    fitted: bool = False  # to features of its training videos, seen as tests see them: by `views`

    def __post_init__(self) -> None:
        BackboneTraining.of(self.options, "method.options")

    @property
    def trained(self) -> bool:
        """False for a method with nothing to train: its one encoding serves every protocol."""
        return self.objective is not None

    def encoding_of(self, run: str) -> str:
        """The folder of features that tests of a run are read from: the run's own, or `frozen`."""
        return run if self.trained else FROZEN


@dataclass(frozen=True)
class FramesConfig:
    """Which frames are stored, and how (params/frames); `per_source` overrides the other keys by source."""

    short_side: int
    frames: int | None
    format: Literal["jpeg", "webp"]
    quality: int
    shard_mb: int
    stretch: tuple[int, int] | None = None
    tests: tuple[Mapping[str, Any], ...] = ()  # {num_frames, sampling, stride, clips}: `TestFrames`
    per_source: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class PromptsConfig:
    """Texts of the classes (params/prompts)."""

    templates: tuple[str, ...]
    descriptions: str | None = None  # a CSV or JSON file, instead of the templates
    descriptions_sha256: str | None = None  # of the file: its first 12 digits, never configured
    context: Mapping[str, Any] | None = None
    clean_names: bool = True
    ensemble: Literal["softmax_sum", "mean_feature"] = "softmax_sum"

    def __post_init__(self) -> None:
        if self.descriptions:
            return
        if not self.templates:
            raise UserError(
                "prompts.templates=[]: no text for a class; write ['{}'] for its name alone, or choose "
                "prompts.descriptions"
            )
        for template in self.templates:
            if template.count("{}") != 1:
                raise UserError(
                    f"prompts.templates: {template!r} needs exactly one {{}}, for the class's name"
                )


@dataclass(frozen=True)
class ViewsConfig:
    """Clips and crops of a test video (params/views)."""

    sampling: str
    stride: int
    clips: int
    crops: int
    order: str = "forward"
    precision: str = "no"
    indices: Literal["released", "even"] = "released"
    resize: Count | None = None  # pixels before the crop, of a 224 input; None: as the input
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    antialias: bool = True


@dataclass(frozen=True)
class RunnerConfig:
    """Where frames are decoded (params/runner)."""

    name: str
    address: str | None = None
    workers: Count = 2
    retries: Whole = 2


@dataclass(frozen=True)
class AugmentationConfig:
    """What training does to a clip (trainer.augmentation)."""

    rand_augment: Mapping[str, Any] | None
    scales: tuple[float, ...]
    distort: Whole
    fixed_places: bool
    area: tuple[float, ...] | None
    ratio: tuple[float, ...]
    flip: bool
    jitter: Fraction
    jitter_strength: tuple[NotNegative, NotNegative, NotNegative, NotNegative]
    jitter_by_frame: bool
    channels: Fraction
    greyscale: Fraction
    erase: Fraction
    erase_area: tuple[float, ...]
    erase_ratio: tuple[float, ...]


@dataclass(frozen=True)
class TrainerConfig:
    """How a method is trained (params/trainer and its recipe); params/trainer/demo.yaml says what each is."""

    length: Length
    warmup: Length
    warmup_start: Fraction | None
    schedule: Literal["cosine", "multistep", "constant"]
    schedule_every: Count
    milestones: tuple[Length, ...]
    gamma: NotNegative
    lr_end: Fraction
    batch_size: Count
    micro_batches: Count
    lr: NotNegative
    lr_scale: Mapping[str, NotNegative]
    weight_decay: NotNegative
    no_decay: tuple[str, ...]
    optimizer: Literal["adamw", "sgd"]
    betas: tuple[BelowOne, BelowOne]
    eps: Positive
    momentum: BelowOne
    clip_grad: Positive | None
    precision: Literal["no", "tf32", "bf16", "fp16", "fp16_weights"]
    recompute: str
    compile: bool
    ema: Fraction
    wise_ft: Fraction
    select: Literal["last", "best"]
    evaluate_every: Length
    best_on_test: bool
    also_tested_on: tuple[str, ...]  # split files of other datasets, for best_on_test
    skip_non_finite: Whole
    dtype: Literal["float16", "bfloat16", "float32"]
    log_every: Count
    tensorboard: bool
    save_every: Count
    workers: Whole
    sampling: str
    stride: Count
    indices: Literal["released", "even"]
    order: Literal["random", "streaming"]
    augment_on: Literal["auto", "cpu", "device"]
    augmentation: AugmentationConfig
    start_from: str | None = None  # a checkpoint's file, or a run DATASET/METHOD/SPLIT
    tracker: Literal["none", "tensorboard", "mlflow", "wandb", "comet_ml", "aim", "dvclive"] = (
        "none"
    )

    def __post_init__(self) -> None:
        if self.ema == 1:
            raise UserError("trainer.ema=1: 1 would never leave the start; 0 is off")


@dataclass(frozen=True)
class ZeroShotConfig:
    """Zero-shot: tests among classes that the model was not trained on."""

    name: str
    splits: tuple[int, ...]
    trained_on: str
    test_on: Literal["test", "val"]  # the official list tested, but for halves
    halves: Whole
    known_classes: str | None
    known_name: str
    renamed_classes: str | None
    partitions: tuple[str, ...]
    partition_seeds: tuple[int, ...]
    test_classes: Count


@dataclass(frozen=True)
class BaseToNovelConfig:
    """Base to novel: trained on one half of the classes, tested on both."""

    name: str
    split: int
    shots: Count | None  # None: the whole base set
    seeds: tuple[int, ...]
    held_out: float


@dataclass(frozen=True)
class FewShotConfig:
    """Few-shot: trained on a few videos of each class."""

    name: str
    split: int
    shots: tuple[Count, ...]
    seeds: tuple[int, ...]
    nested: bool
    held_out: float


@dataclass(frozen=True)
class SupervisedConfig:
    """Supervised: the official splits."""

    name: str
    splits: tuple[int, ...]
    held_out: float
    held_out_seed: int


@dataclass(frozen=True)
class ImageModelConfig:
    """An image model that is trained first and starts the video model; None: as the trainer has it."""

    length: Length  # 0: none is trained
    warmup: Length | None = None
    lr: NotNegative | None = None


@dataclass(frozen=True)
class ReidConfig:
    """Person re-identification: batches, losses, and which gallery tracklets count."""

    name: str
    protocols: tuple[str, ...]
    tracklet: str
    held_out: float
    held_out_seed: int
    people_per_batch: Count
    tracklets_per_person: Count
    head: Literal["context", "linear"]
    context_length: Count
    margin: NotNegative | None  # None: the soft margin
    triplet_weight: NotNegative
    triplet_normalised: bool
    motion_weight: NotNegative
    image_model: ImageModelConfig | None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\d+-frames|all-frames(-\d+)?", self.tracklet):
            raise UserError(
                f"protocol.tracklet={self.tracklet}: write all-frames, all-frames-N or N-frames, N being the "
                "frames of a clip (8 in all-frames)"
            )


ProtocolConfig = ZeroShotConfig | BaseToNovelConfig | FewShotConfig | SupervisedConfig | ReidConfig
_PROTOCOLS: dict[str, Callable[..., ProtocolConfig]] = {
    "zero_shot": ZeroShotConfig,
    "base_to_novel": BaseToNovelConfig,
    "few_shot": FewShotConfig,
    "supervised": SupervisedConfig,
    "reid": ReidConfig,
}


def protocol_config(values: Mapping[str, Any], where: str = "protocol") -> ProtocolConfig:
    """A protocol's parameters by their `name`. Raises UserError."""
    name = str(values.get("name"))
    if name not in _PROTOCOLS:
        raise UserError(f"{where}.name={name}: {suggestion(name, _PROTOCOLS)}")
    config: ProtocolConfig = build(_PROTOCOLS[name], values, where)
    return config


@dataclass(frozen=True)
class Protocols:
    """A dataset's protocols; None where it takes no part."""

    zero_shot: ZeroShotConfig | None = None
    base_to_novel: BaseToNovelConfig | None = None
    few_shot: FewShotConfig | None = None
    supervised: SupervisedConfig | None = None
    reid: ReidConfig | None = None

    def present(self) -> dict[str, ProtocolConfig]:
        """Name → parameters of those it takes part in."""
        every = ((name, getattr(self, name)) for name in PROTOCOLS)
        return {name: one for name, one in every if one is not None}


@dataclass(frozen=True)
class _Single:
    """The keys of params/config.yaml that are in no group."""

    split: str
    seed: Whole
    workers: Whole
    processes: int | str
    metrics: tuple[str, ...] = ()


_SINGLE = tuple(_Single.__dataclass_fields__)


@dataclass(frozen=True)
class Config:
    """A whole configuration. `values` is what it was made of, as composed: hashes are of that."""

    dataset: DatasetConfig
    backbone: BackboneConfig
    method: MethodConfig
    protocol: ProtocolConfig
    frames: FramesConfig
    prompts: PromptsConfig
    views: ViewsConfig
    runner: RunnerConfig
    split: str
    seed: Whole
    workers: Whole
    processes: int | str
    metrics: tuple[str, ...]  # beside the usual ones
    values: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Config:
        """Check the values of a composition. Raises UserError, one line, for the first that is wrong."""
        config = cls(
            dataset=build(DatasetConfig, values["dataset"], "dataset"),
            backbone=build(BackboneConfig, values["backbone"], "backbone"),
            method=build(MethodConfig, values["method"], "method"),
            protocol=protocol_config(values["protocol"]),
            frames=build(FramesConfig, values["frames"], "frames"),
            prompts=build(PromptsConfig, values["prompts"], "prompts"),
            views=build(ViewsConfig, values["views"], "views"),
            runner=build(RunnerConfig, values["runner"], "runner"),
            values=values,
            **vars(build(_Single, {key: values[key] for key in _SINGLE if key in values}, "")),
        )
        if not config._open_numbers():
            _ = config.trainer
        return config

    @cached_property
    def trainer(self) -> TrainerConfig:
        """Raises UserError where the trainer and the recipe leave a number open (`???`)."""
        if missing := self._open_numbers():
            raise UserError(
                f"{', '.join(missing)}: no value. Write params/recipe/<trainer>/{self.method.name}.yaml "
                "as of another method, or set them on the command line"
            )
        return build(TrainerConfig, self.values["trainer"], "trainer")

    def _open_numbers(self) -> list[str]:
        trainer = self.values["trainer"]
        return [f"trainer.{key}" for key, value in trainer.items() if value == "???"]
