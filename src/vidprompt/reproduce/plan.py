"""A published row → the chains of stages that make it: the tested model's training first, then its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vidprompt.config import paths
from vidprompt.config.compose import protocols_of
from vidprompt.config.published import PublishedRow
from vidprompt.config.schema import Config
from vidprompt.data.splits.split_file import Split
from vidprompt.files.hashes import digest
from vidprompt.pipeline.matrix import training_runs
from vidprompt.sweep.plan import MULTIRUNS, NOT_NAMED, Configurations, EvaluationVariant, Job, slug
from vidprompt.system.errors import UserError

HOME = MULTIRUNS / "reproduce"  # a folder a chain; a multirun's, so that equal trainings are shared
OF_THE_ROW = ("dataset", "experiment", "method", "multirun", "protocol", "split")
TARGET_ONLY = (
    "dataset.",
    "protocol.",
    "views",
)  # overrides that the tested model's training does not take
# keys of a dataset that its manifest and frames follow from
OF_THE_DATA = ("archives", "class_groups", "min_frames", "root", "sources", "probe", "probe_timeout_s",
               "probe_memory_mb", "probe_max_pixels")  # fmt: skip


@dataclass(frozen=True)
class Chain:
    """One dataset with one method: data, splits, trainings, and (`tested`) features and evaluation.

    `runs`: the training lists whose models it needs, by name; `borrowed`: the chain that trains them. With
    `starts` it trains them itself, from the checkpoint of that chain.
    """

    job: Job
    config: Config
    runs: tuple[str, ...]
    tested: bool
    data: Path  # where manifest and frames are: the project (`.`), or a folder of their own
    borrowed: Chain | None = None
    starts: bool = False

    @property
    def dataset(self) -> str:
        return self.config.dataset.name

    @property
    def protocol(self) -> str:
        return self.config.protocol.name

    @property
    def folder(self) -> Path:
        return HOME / self.job.name

    @property
    def metrics(self) -> Path:
        """Where the evaluation writes metrics.json."""
        return (
            self.folder
            / paths.results(self.dataset, self.job.method, self.protocol)
            / "metrics.json"
        )

    def includes(self, name: str, split: Split) -> bool:
        """Whether a split file is one of the row's: of its protocol, and trained on or tested here."""
        return split.protocol == self.protocol and (self.tested or name in self.runs)

    @property
    def trains(self) -> bool:
        """False where its models are another chain's."""
        return self.borrowed is None or self.starts

    @property
    def all(self) -> tuple[Chain, ...]:
        """The chains in the order in which they run."""
        return (self,) if self.borrowed is None else (*self.borrowed.all, self)


def plan_row(
    row: PublishedRow, overrides: Sequence[str] = (), configs: Configurations | None = None
) -> Chain:
    """The chain that makes a row with `key=value` overrides of the user's.

    Overrides of the dataset, the protocol and the views are the tested dataset's; all others are the
    training's of a tested model, too. Raises UserError for a key that the row stands for.
    """
    for override in overrides:
        key = override.partition("=")[0]
        if key in OF_THE_ROW or key.startswith("multirun."):
            raise UserError(f"{override}: {key} is the row's own ({row.name}): choose another row")
    configs = configs or Configurations()
    model = None
    if (preset := row.model or row.start) is not None:
        of_model = [one for one in overrides if not one.startswith(TARGET_ONLY)]
        model = _chain((f"experiment={preset}",), of_model, preset, False, None, configs)
    name, starts = row.experiment or row.name, row.start is not None
    return _chain(row.settings, overrides, name, True, model, configs, starts)


def _chain(
    settings: Sequence[str],
    overrides: Sequence[str],
    name: str,
    tested: bool,
    borrowed: Chain | None,
    configs: Configurations,
    starts: bool = False,
) -> Chain:
    everything = (*settings, *overrides)
    config = configs.get(*everything)
    named = [one for one in (*settings[1:], *overrides) if not one.startswith(NOT_NAMED)]
    if not settings[0].startswith("experiment="):
        named = list(overrides)  # the row's name says the rest
    protocol = config.protocol.name
    variant = EvaluationVariant(row=name, name="", overrides=())
    job = Job(
        slug(",".join([name, *named])), config.method.name, config.seed, everything, (variant,)
    )
    if not config.method.trained:
        runs: tuple[str, ...] = ()
    elif borrowed is not None and not starts:
        runs = (config.split,)
    else:
        every = training_runs(protocols_of(config), set(config.dataset.roles))
        runs = tuple(run for run in every if run.startswith(protocol))
        if not tested:
            runs = (config.split,)  # the one model that is tested elsewhere
    if borrowed is not None:
        _check_borrowed(name, config, borrowed, starts)
    return Chain(job, config, runs, tested, _data_home(config, configs), borrowed, starts)


def _check_borrowed(name: str, config: Config, borrowed: Chain, starts: bool) -> None:
    """Raise UserError where a chain does not use what the chain before it trains."""
    trained, used = f"{borrowed.dataset}/{borrowed.config.split}", config.split
    if starts:
        trained = f"{borrowed.dataset}/{borrowed.job.method}/{borrowed.config.split}"
        used = str(config.trainer.start_from)
    if used != trained:
        uses = "starts from" if starts else "tests"
        raise UserError(f"{name} {uses} {used}, and {borrowed.job.name} trains {trained}")


def _data_home(config: Config, configs: Configurations) -> Path:
    """The project where its own frames are of these settings; else a folder for the dataset so read."""
    usual = configs.get(f"dataset={config.dataset.name}")
    if _data_settings(config) == _data_settings(usual):
        return Path()
    return HOME / f"data,{config.dataset.name},{digest(_data_settings(config))}"


def _data_settings(config: Config) -> dict[str, object]:
    dataset = config.values["dataset"]
    return {"frames": config.values["frames"]} | {key: dataset.get(key) for key in OF_THE_DATA}
