"""The arguments of `vidprompt tune` → methods, ranges, what is fixed, and the folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidprompt.config.overrides import split_override
from vidprompt.config.schema import Config
from vidprompt.sweep.budget import trained_by_steps
from vidprompt.sweep.methods import chosen_methods, take_own
from vidprompt.sweep.plan import MULTIRUNS, NOT_NAMED, Configurations, slug
from vidprompt.system.errors import UserError
from vidprompt.tuning.space import TuneSettings, Value, check_space, read_settings
from vidprompt.tuning.trainings import held_out_override


@dataclass(frozen=True)
class TunePlan:
    """What is searched, of which methods, with what all trials have in common.

    `overrides` are those of all trials (without the method's own and lengths); `start` the searched values
    as they are without the search, by method; `split` the one that was asked for, or empty.
    """

    folder: Path
    settings: TuneSettings
    methods: tuple[str, ...]
    overrides: tuple[str, ...]
    held_out: str
    split: str
    start: Mapping[str, Mapping[str, Value]]
    configs: Configurations

    def config(self, method: str) -> Config:
        """The configuration that the method's trials have in common."""
        return self.configs.get(*self.overrides, f"method={method}", self.held_out)


def make_tune_plan(arguments: Sequence[str], configs: Configurations | None = None) -> TunePlan:
    """Read the arguments, and check every searched key of every method.

    A key that is searched and given has the given value in the first trial. Raises UserError for what cannot
    be searched.
    """
    configs = configs or Configurations()
    own, others = take_own(arguments, ("tune", "methods", "method", "split", "protocol"))
    if "methods" in own and "method" in own:
        raise UserError("method= and methods= are both given: name methods=a,b, or one method")
    of_file = [a for a in others if a.startswith("tune.")]
    overrides = [a for a in others if a not in of_file]
    for key in ("split", "protocol"):
        if key in own:
            overrides.append(f"{key}={own[key]}")
    base = configs.get(*overrides, *([f"method={own['method']}"] if "method" in own else []))
    methods = chosen_methods(own["methods"]) if "methods" in own else [str(base.method.name)]
    settings = read_settings(
        own.get("tune", _usual_file(base)),
        [split_override(a.removeprefix("tune.")) for a in of_file],
    )
    trained = [m for m in methods if trained_by_steps(configs.get(*overrides, f"method={m}"))]
    if (untrained := [m for m in methods if m not in trained]) and own.get("methods") != "all":
        raise UserError(f"{untrained[0]} has nothing to train: leave it out of methods")
    protocol = f"protocol={base.protocol.name}"
    overrides = [a for a in overrides if not a.startswith("protocol=")] + [protocol]
    held_out = held_out_override(base, settings)
    start = {
        method: check_space(
            settings, method, configs.get, (*overrides, f"method={method}", held_out)
        )
        for method in trained
    }
    for method in trained:
        trainer = configs.get(*overrides, f"method={method}").trainer
        if trainer.best_on_test or trainer.also_tested_on:
            raise UserError(
                "tuning looks at held-out training videos alone: leave trainer.best_on_test and "
                "trainer.also_tested_on out"
            )
    named = [a for a in arguments if not a.startswith((*NOT_NAMED, "tune.trials="))]
    return TunePlan(
        folder=MULTIRUNS / slug(",".join(["tune", *named])),
        settings=settings,
        methods=tuple(trained),
        overrides=tuple(overrides),
        held_out=held_out,
        split=own.get("split", ""),
        start=start,
        configs=configs,
    )


def _usual_file(config: Config) -> str:
    """The demo's file of params/tune/ for the demo, the field's for every other dataset."""
    return "demo" if config.dataset.name == "demo" else "standard"
