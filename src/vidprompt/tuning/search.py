"""Runs the trials of a tune with the launcher of `vidprompt multirun`, and stops those that are pruned."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vidprompt.files.hashes import digest
from vidprompt.sweep.budget import equal_steps
from vidprompt.sweep.launch import OTHER_PROCESS, Launcher, Work
from vidprompt.sweep.steps import input_hashes
from vidprompt.system.errors import UserError
from vidprompt.tuning.plan import TunePlan
from vidprompt.tuning.study import FILE, MethodStudy, RunningTrial
from vidprompt.tuning.trainings import (
    StepLogReader,
    Tuned,
    checkpoint_value,
    final_evaluations,
    prepare_splits,
    prepare_trial,
    remove_weights,
    splits_work,
    trial_work,
    tuned_split,
)

logger = logging.getLogger(__name__)

MOST_FAILURES = 3  # trials that fail before any ends: it is no matter of the values


@dataclass
class _Trial:
    """A trial that the launcher runs."""

    study: MethodStudy
    running: RunningTrial
    tuned: Tuned
    log: StepLogReader


class Search:
    """The studies of a plan's methods, and the trials under way.

    Args:
        plan: what is searched.
        jobs: trials at once.
        command: instead of vidprompt, for tests.

    Makes the split files with held-out videos. Raises UserError where that fails, or trials of the folder are
    of other settings.
    """

    def __init__(self, plan: TunePlan, *, jobs: int = 1, command: Sequence[str] = ()) -> None:
        self.plan, self.jobs, self.command = plan, jobs, command
        self._trials: dict[str, _Trial] = {}  # by the job's name
        self.unfinished: list[str] = []
        self.last_reason = ""
        self.tuned = self._tuned()
        self.studies = {method: self._study(method) for method in plan.methods}

    def _tuned(self) -> dict[str, Tuned]:
        plan = self.plan
        first = plan.config(plan.methods[0])
        overrides = [*plan.overrides, plan.held_out]
        work = splits_work(plan.folder, first, overrides)
        launcher = Launcher(1, command=self.command)
        for why in launcher.run_works(
            "splits", [work], lambda one: prepare_splits(one, first)
        ).values():
            raise UserError(why)
        run, split = tuned_split(plan.folder, first, plan.split)
        assert split.train is not None
        configs = {method: plan.config(method) for method in plan.methods}
        steps = equal_steps(configs, split.train)
        return {
            method: Tuned(
                method=method,
                config=config,
                overrides=(
                    *[one for one in overrides if not one.startswith(("split=", "protocol="))],
                    f"method={method}",
                    f"protocol={config.protocol.name}",
                    f"split={run}",
                    f"trainer.length={steps[method]}",
                ),
                run=run,
                split=split,
                steps=steps[method],
            )
            for method, config in configs.items()
        }

    def _study(self, method: str) -> MethodStudy:
        plan, tuned = self.plan, self.tuned[method]
        settings, start = plan.settings, plan.start[method]
        dimensions = settings.dimensions(method)
        outside = [key for key, value in start.items() if value not in dimensions[key]]
        if outside:
            key = outside[0]
            logger.info(
                f"{method}: {key}={start[key]} of the recipe is outside {dimensions[key]}: no trial has it"
            )
        values = {
            k: v for k, v in plan.configs.get(*tuned.overrides).values.items() if k != "multirun"
        }
        identity = digest(
            [
                values,
                input_hashes(tuned.config),
                tuned.split.to_json(),
                {key: str(one) for key, one in dimensions.items()},
                [settings.sampler, settings.startup_trials, settings.pruner, settings.warmup],
            ]
        )
        return MethodStudy(
            plan.folder / FILE,
            method,
            settings,
            start=None if outside else start,
            identity=identity,
            seed=int(tuned.config.seed),
            jobs=self.jobs,
        )

    def run(self) -> None:
        """Run what is left of every method's trials."""
        left = sum(
            max(0, self.plan.settings.trials - len(study.results()))
            for study in self.studies.values()
        )
        launcher = Launcher(self.jobs, command=self.command)
        launcher.run_each("tune", left, self._works(), self._finished, self._pruned)

    def _works(self) -> Iterator[Work]:
        for method in self.plan.methods:
            study, tuned = self.studies[method], self.tuned[method]
            for running in study.trials():
                work = trial_work(self.plan.folder, tuned, running.number, running.values)
                self._trials[work.job.name] = _Trial(
                    study, running, tuned, StepLogReader(work, tuned)
                )
                if not work.pending or (work.folder / work.steps[0].output).is_file():
                    # it ended, and who ran it was killed before recording it
                    self._finished(work, "")
                    continue
                prepare_trial(work, tuned)
                logger.info(f"{work.job.name}: {_shown(running)}")
                yield work

    def _pruned(self, work: Work) -> bool:
        """Whether a running trial is to be stopped, by its evaluations so far; the last stops none."""
        one = self._trials[work.job.name]
        if one.running.pruned:
            return False  # it is ending
        held_out = one.log.read()
        return one.study.report(one.running, held_out[: one.log.count_before(one.tuned.steps)])

    def _finished(self, work: Work, why: str) -> None:
        one = self._trials.pop(work.job.name)
        study, running, name = one.study, one.running, work.job.name
        if one.running.pruned:
            study.prune(running)
            logger.info(f"{name}: pruned after evaluation {running.reported}")
        elif not why:
            held_out = final_evaluations(work)
            study.finish(running, held_out, checkpoint_value(one.tuned, held_out))
            state = "pruned" if running.pruned else f"{100 * held_out[-1]:.1f} % of held-out videos"
            logger.info(f"{name}: {state}")
        elif why == OTHER_PROCESS or why.startswith("stopped"):
            self.unfinished.append(name)
            return
        else:
            self.last_reason = why
            study.fail(running, why)
            ended = study.results()
            if len(ended) >= MOST_FAILURES and all(result.reason for result in ended):
                raise UserError(f"the first {len(ended)} trials of {study.method} failed: {why}")
        remove_weights(work)


def _shown(running: RunningTrial) -> str:
    return ", ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in running.values.items()
    )
