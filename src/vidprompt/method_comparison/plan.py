"""The arguments of `vidprompt compare-methods` → jobs of a multirun with equal budgets."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vidprompt.config import paths
from vidprompt.config.names import PROTOCOLS
from vidprompt.config.schema import Config
from vidprompt.data.splits.split_file import Split, read_splits
from vidprompt.sweep.budget import equal_steps, steps_of_recipe
from vidprompt.sweep.methods import ALL, chosen_methods, take_own
from vidprompt.sweep.plan import (
    MULTIRUNS,
    NOT_NAMED,
    Configurations,
    EvaluationVariant,
    Job,
    Plan,
    changes_training_only,
    slug,
)
from vidprompt.sweep.steps import chosen_splits
from vidprompt.system.errors import DataError, UserError
from vidprompt.system.suggestions import check_choice

logger = logging.getLogger(__name__)

SEEDS = (1, 2, 3)
CLIPS, RECIPE = "clips", "recipe"
BUDGETS = {
    CLIPS: "every method sees as many training clips as the one with the longest recipe on that list",
    RECIPE: "every method is trained as long as its own recipe says",
}
ByRun = dict[str, dict[str, Config]]  # training list → method → configuration
OWN = ("methods", "budget", "seed", "method", "split", "protocol")


@dataclass(frozen=True)
class MethodPlan:
    """The jobs of a comparison.

    `given` has the overrides of each method, `steps` method → training list → steps, `failed` the methods
    that cannot be configured, with why.
    """

    plan: Plan
    dataset: str
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    budget: str
    overrides: tuple[str, ...]
    given: Mapping[str, tuple[str, ...]]
    splits: Mapping[str, Split]
    steps: Mapping[str, Mapping[str, int]]
    failed: Mapping[str, str]

    @property
    def trained(self) -> list[str]:
        """The methods that are trained in steps: the others are the same with every seed."""
        return [method for method, steps in self.steps.items() if any(steps.values())]

    @property
    def main_run(self) -> str:
        """The training list that parameters, FLOPs and times are of: the supervised one, or the first."""
        runs = sorted({one.run for one in self.splits.values()})
        named = [run for run in runs if run.startswith("supervised")]
        return (named or runs)[0]

    def config(self, configs: Configurations, method: str, run: str) -> Config:
        """A method's configuration of the training on a list."""
        protocol = f"protocol={self.splits[run].protocol}"
        return configs.get(*self.given[method], protocol)


def make_method_plan(arguments: Sequence[str], configs: Configurations) -> MethodPlan:
    """Read the arguments. Raises UserError for a key that the comparison sets itself, an unknown method, or
    when no method can be configured."""
    own, others = take_own(arguments, OWN)
    for key in ("method", "split", "protocol"):
        if key in own:
            raise UserError(
                f"{key}={own[key]}: every protocol of the dataset is compared; choose methods=a,b, and "
                "multirun.protocols=[…]"
            )
    budget = own.get("budget", CLIPS)
    check_choice("budget", budget, BUDGETS)
    methods = chosen_methods(own.get("methods", ALL))
    seeds = _seeds(own["seed"]) if "seed" in own else SEEDS
    base = configs.get(*others)
    multirun = base.values["multirun"]
    if multirun["settings"] or multirun["sweep"]:
        raise UserError("an experiment with settings or a sweep has jobs of its own: use multirun")
    dataset = str(base.dataset.name)
    chosen = any(one.startswith("multirun.protocols=") for one in others)
    protocols = tuple(multirun["protocols"]) if chosen else _protocols_of(dataset)
    splits = chosen_splits(dataset, protocols)
    given, by_run, failed = _configured(methods, others, splits, configs)
    if failed.keys() >= set(methods):
        raise UserError(f"no method can be compared: {next(iter(failed.values()))}")
    steps = _steps(by_run, splits, budget)
    jobs = [
        job
        for method in methods
        if method not in failed
        for job in _jobs(method, given[method], seeds, steps.get(method, {}), by_run, splits)
    ]
    named = ["compare", *(a for a in arguments if not a.startswith(NOT_NAMED))]
    return MethodPlan(
        plan=Plan(MULTIRUNS / slug(",".join(named)), protocols, tuple(jobs)),
        dataset=dataset,
        methods=tuple(method for method in methods if method not in failed),
        seeds=seeds,
        budget=budget,
        overrides=tuple(others),
        given=given,
        splits=splits,
        steps=steps,
        failed=failed,
    )


def _configured(
    methods: Sequence[str],
    overrides: Sequence[str],
    splits: Mapping[str, Split],
    configs: Configurations,
) -> tuple[dict[str, tuple[str, ...]], ByRun, dict[str, str]]:
    """Each method's overrides, the configurations of the trained ones by training list, and why some have
    none."""
    failed: dict[str, str] = {}
    given: dict[str, tuple[str, ...]] = {}
    by_run: ByRun = {run: {} for run in _runs(splits)}
    for method in methods:
        try:
            given[method] = _given(method, overrides, configs)
            for run, found in by_run.items():
                config = configs.get(*given[method], f"protocol={splits[run].protocol}")
                if config.method.trained:
                    train = splits[run].train
                    assert train is not None
                    steps_of_recipe(config, train)  # a recipe without a length is an error here
                    found[method] = config
        except UserError as error:
            failed[method] = str(error)
            for found in by_run.values():
                found.pop(method, None)
            logger.error(f"failed {method}: {error}")
    return given, by_run, failed


def _seeds(text: str) -> tuple[int, ...]:
    names = text.strip("[]").replace(" ", "").split(",")
    if not all(name.isdigit() for name in names) or len(set(names)) < len(names):
        raise UserError(
            f"seed={text}: write whole numbers with commas between them, each once: 1,2,3"
        )
    return tuple(int(name) for name in names)


def _protocols_of(dataset: str) -> tuple[str, ...]:
    """The protocols that a dataset has splits of, but those that are tested with another dataset's model."""
    there = {split.protocol for split in read_splits(paths.splits(dataset)).values()}
    found = []
    for protocol in [name for name in PROTOCOLS if name in there]:
        try:
            chosen_splits(dataset, (protocol,))
            found.append(protocol)
        except UserError as error:
            logger.warning(f"{protocol} is left out: {error}")
    if not found:
        raise DataError(f"no split files in {paths.splits(dataset)}: run `dvc repro` first")
    return tuple(found)


def _runs(splits: Mapping[str, Split]) -> list[str]:
    return sorted({split.run for split in splits.values()})


def _steps(
    by_run: Mapping[str, Mapping[str, Config]], splits: Mapping[str, Split], budget: str
) -> dict[str, dict[str, int]]:
    steps: dict[str, dict[str, int]] = {}
    for run, configs in by_run.items():
        train = splits[run].train
        assert train is not None
        own = {method: steps_of_recipe(config, train) for method, config in configs.items()}
        for method, count in (equal_steps(configs, train) if budget == CLIPS else own).items():
            steps.setdefault(method, {})[run] = count
    return steps


def _jobs(
    method: str,
    given: Sequence[str],
    seeds: Sequence[int],
    steps: Mapping[str, int],
    by_run: Mapping[str, Mapping[str, Config]],
    splits: Mapping[str, Split],
) -> list[Job]:
    """A job a seed; one alone of a method that is trained in no steps.

    A length is set where it is not the recipe's own, so that equal trainings of a multirun are taken from
    there.
    """
    variants = (EvaluationVariant(method, "", ()),)
    if not any(steps.values()):
        return [Job(method, method, 1, tuple(given), variants)]
    lengths = {}
    for run, count in steps.items():
        train = splits[run].train
        assert train is not None
        if count != steps_of_recipe(by_run[run][method], train):
            lengths[run] = (f"trainer.length={count}",)
    return [
        Job(f"{method},seed={seed}", method, seed, (*given, f"seed={seed}"), variants, lengths)
        for seed in seeds
    ]


def _given(method: str, overrides: Sequence[str], configs: Configurations) -> tuple[str, ...]:
    """The overrides of a method: where nothing is trained those of tests alone, as in a multirun."""
    of_tests = [one for one in overrides if not changes_training_only(one)]
    trained = configs.get(*of_tests, f"method={method}").method.trained
    return (*(overrides if trained else of_tests), f"method={method}")
