"""The trials of one method in Optuna: which values come next, when to stop one, what came out.

Optuna's `ask` and `tell` are used, and not Hydra's Optuna sweeper (docs/tuning.md says why). The sampler is
seeded anew for each trial, so that with one job a tune that was stopped and goes on draws the same values as
one that was not.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidprompt.files.hashes import digest
from vidprompt.system.errors import UserError
from vidprompt.tuning.space import Choice, Dimension, TuneSettings, Value

if TYPE_CHECKING:
    import optuna

FILE = "study.db"
IDENTITY = "identity"  # attribute of a study: what all its trials have in common
REASON = "reason"  # attribute of a trial that failed
COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"


@dataclass(frozen=True)
class TrialResult:
    """A finished trial.

    `held_out` are the measures in [0, 1] on the held-out videos, by evaluation; `value` is that of the
    checkpoint (None: pruned or failed), `reason` why it failed.
    """

    number: int
    state: str
    values: dict[str, Value]
    held_out: list[float]
    value: float | None
    reason: str = ""


@dataclass
class RunningTrial:
    """A trial under way, with the evaluations that Optuna has been told of."""

    number: int
    values: dict[str, Value]
    reported: int = 0
    pruned: bool = False
    trial: Any = field(default=None, repr=False)  # optuna.Trial


class MethodStudy:
    """The study of a method, kept in a file that every change is written to.

    Args:
        file: the SQLite file of the tune.
        start: the values of the first trial; None where the recipe's lie outside the ranges.
        identity: what the trials have in common; a study of another is refused.
        jobs: how many trials run at once.

    Raises UserError where Optuna is not installed, or the file has trials of other settings.
    """

    def __init__(
        self,
        file: Path,
        method: str,
        settings: TuneSettings,
        *,
        start: Mapping[str, Value] | None,
        identity: str,
        seed: int,
        jobs: int = 1,
    ) -> None:
        _check_installed()
        import optuna

        self.method, self.settings, self.seed, self.jobs = method, settings, seed, jobs
        self.space = {
            key: _distribution(dimension) for key, dimension in settings.dimensions(method).items()
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        self.study: optuna.Study = optuna.create_study(
            storage=f"sqlite:///{file.absolute()}",
            study_name=method,
            direction="maximize",
            pruner=_pruner(settings),
            load_if_exists=True,
        )
        known = self.study.user_attrs.get(IDENTITY)
        if known is None:
            self.study.set_user_attr(IDENTITY, identity)
            if start is not None:
                self.study.enqueue_trial(dict(start))
        elif known != identity:
            raise UserError(
                f"{file} has trials of {method} with other parameters, data or ranges: run with --again to "
                f"start anew, or put {file.parent} aside"
            )

    def trials(self) -> Iterator[RunningTrial]:
        """The trials to run: those that were under way when the last run ended, then new ones.

        A new one is drawn when it is asked for, so that it follows from all that are finished by then.
        """
        import optuna

        state = optuna.trial.TrialState
        for old in self.study.get_trials(states=(state.RUNNING,)):
            trial = optuna.trial.Trial(self.study, old._trial_id)
            yield RunningTrial(old.number, _plain(old.params), trial=trial)
        while True:
            asked = [t for t in self.study.get_trials(False) if t.state is not state.WAITING]
            if len(asked) >= self.settings.trials:
                return
            self.study.sampler = self._sampler(len(asked))
            trial = self.study.ask(self.space)
            yield RunningTrial(trial.number, _plain(trial.params), trial=trial)

    def report(self, running: RunningTrial, held_out: list[float]) -> bool:
        """Take the evaluations so far, in order; True where the trial is to be stopped.

        Those after one that stops it are not taken: the result does not depend on how soon it was seen.
        """
        with warnings.catch_warnings():  # of an evaluation that was reported before a restart
            warnings.simplefilter("ignore", UserWarning)
            for number, value in enumerate(held_out[running.reported :], running.reported + 1):
                if running.pruned:
                    break
                running.trial.report(value, number)
                running.reported = number
                running.pruned = running.trial.should_prune()
        return running.pruned

    def finish(self, running: RunningTrial, held_out: list[float], value: float) -> None:
        """Record a training that ended: pruned, if an evaluation before the last says so."""
        import optuna

        self.report(running, held_out[:-1])
        if running.pruned:
            self.prune(running)
            return
        if running.reported < len(held_out):
            running.trial.report(held_out[-1], len(held_out))
        self.study.tell(running.trial, value, state=optuna.trial.TrialState.COMPLETE)

    def prune(self, running: RunningTrial) -> None:
        """Record a trial that was stopped."""
        import optuna

        self.study.tell(running.trial, state=optuna.trial.TrialState.PRUNED)

    def fail(self, running: RunningTrial, reason: str) -> None:
        """Record a training that failed; it is not tried again."""
        import optuna

        running.trial.set_user_attr(REASON, reason)
        self.study.tell(running.trial, state=optuna.trial.TrialState.FAIL)

    def results(self) -> list[TrialResult]:
        """The finished trials, by number."""
        import optuna

        names = {
            optuna.trial.TrialState.COMPLETE: COMPLETE,
            optuna.trial.TrialState.PRUNED: PRUNED,
            optuna.trial.TrialState.FAIL: FAILED,
        }
        return [
            TrialResult(
                number=one.number,
                state=names[one.state],
                values=_plain(one.params),
                held_out=[v for _, v in sorted(one.intermediate_values.items())],
                value=one.value if names[one.state] == COMPLETE else None,
                reason=str(one.user_attrs.get(REASON, "")),
            )
            for one in self.study.get_trials(deepcopy=False)
            if one.state in names
        ]

    def importance(self) -> dict[str, float]:
        """Key → its share of what decides between good and other trials (PED-ANOVA: Watanabe et al., IJCAI
        2023), in [0, 1]; empty with fewer than four trials that ended."""
        import optuna

        results = [one.value for one in self.results() if one.value is not None]
        if len(results) < 4 or len(set(results)) < 2:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = optuna.importance.get_param_importances(
                self.study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
            )
        return {key: round(float(share), 4) for key, share in found.items()}

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """The sampler of trial `number`: what it draws follows from the seed and the finished trials."""
        import optuna

        seed = int(digest([self.seed, self.method, number])[:8], 16)
        if self.settings.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of experimental arguments
            return optuna.samplers.TPESampler(
                seed=seed,
                n_startup_trials=self.settings.startup_trials,
                constant_liar=self.jobs > 1,  # keeps trials at once apart
            )


def _check_installed() -> None:
    """Raises UserError without Optuna."""
    try:
        import optuna
    except ImportError as error:
        raise UserError(
            "vidprompt tune needs its package: pip install 'vidprompt[tune]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def _distribution(dimension: Dimension) -> optuna.distributions.BaseDistribution:
    import optuna

    if isinstance(dimension, Choice):
        return optuna.distributions.CategoricalDistribution(dimension.values)
    low, high, step = dimension.low, dimension.high, dimension.step
    if isinstance(low, int) and isinstance(high, int) and isinstance(step, int | None):
        return optuna.distributions.IntDistribution(low, high, dimension.log, step or 1)
    return optuna.distributions.FloatDistribution(low, high, dimension.log, step)


def _pruner(settings: TuneSettings) -> optuna.pruners.BasePruner:
    """Evaluations are counted from 1."""
    import optuna

    if settings.pruner == "median":
        return optuna.pruners.MedianPruner(settings.startup_trials, settings.warmup + 1)
    if settings.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(settings.warmup)
    return optuna.pruners.NopPruner()


def _plain(values: Mapping[str, Any]) -> dict[str, Value]:
    return dict(sorted(values.items()))
