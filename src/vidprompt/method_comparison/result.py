"""What comparison.json holds: parameters, FLOPs and accuracies of all methods, and paired tests between them.

Equal results give equal bytes; what depends on the machine is in speed.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

from vidprompt.comparison.compare import ComparisonVerdict, MeasureDifference, compare
from vidprompt.comparison.results import LoadedResult, find_result
from vidprompt.comparison.seeds import SeedMean, as_one, repeated, seed_means
from vidprompt.comparison.table import measure_title
from vidprompt.config import paths
from vidprompt.method_comparison.cost import HOW, model_cost
from vidprompt.method_comparison.plan import BUDGETS, MethodPlan
from vidprompt.metrics.intervals import LEVEL, METHOD
from vidprompt.sweep.launch import Work
from vidprompt.sweep.plan import Configurations
from vidprompt.system.errors import DataError, UserError

Results = dict[str, dict[str, dict[int, LoadedResult]]]  # protocol → method → seed → result
SHOWN = ("top1", "R-1", "mAP")  # metrics with a row in the table; comparison.json has all


def comparison_result(
    plan: MethodPlan, works: Sequence[Work], failed: Mapping[str, str], configs: Configurations
) -> dict[str, Any]:
    """Everything but the speed. Raises DataError when no method has a result."""
    results = read_results(plan, works)
    if not results:
        first = next(iter(failed.values()), "no step ran")
        raise DataError(f"no method of {plan.plan.name} has results: {first}")
    methods: dict[str, Any] = {}
    reasons = {**plan.failed, **failed}
    for method in plan.methods:
        try:
            one: dict[str, Any] = _cost(plan, method, configs, works)
        except (UserError, RuntimeError) as error:  # a plug-in that does not work
            reasons[method] = str(error)
            continue
        one["steps"] = dict(plan.steps.get(method, {}))
        one["measures"] = {
            protocol: {f"{name}/{metric}": _json(mean) for (name, metric), mean in means.items()}
            for protocol, of in results.items()
            if method in of
            for means in [seed_means(of[method])]
        }
        methods[method] = one
    return {
        "name": plan.plan.name,
        "dataset": plan.dataset,
        "protocols": list(plan.plan.protocols),
        "budget": plan.budget,
        "budget_means": BUDGETS[plan.budget],
        "seeds": list(plan.seeds),
        "overrides": list(plan.overrides),
        "measured_on": plan.main_run,
        "flops_counted": HOW,
        "intervals": METHOD,
        "level": LEVEL,
        "order": list(methods),
        "methods": methods,
        "pairs": _pairs(plan, list(methods), results),
        "failed": dict(sorted(reasons.items())),
    }


def _cost(
    plan: MethodPlan, method: str, configs: Configurations, works: Sequence[Work]
) -> dict[str, Any]:
    """Of the model without weights; trained parameters as the training counted them, if it is done: what is
    fitted to features has its parameters from then on."""
    run = plan.main_run
    train = plan.splits[run].train
    assert train is not None
    cost = dict(model_cost(plan.config(configs, method, run), len(train.classes)))
    for work in works:
        file = work.folder / paths.training_summary(plan.dataset, method, run)
        if work.job.method == method and file.is_file():
            cost["trained_parameters"] = json.loads(file.read_text("utf-8"))["trained_parameters"]
            break
    return cost


def read_results(plan: MethodPlan, works: Sequence[Work]) -> Results:
    """The results of evaluations that are finished with the present configuration and inputs."""
    found: Results = {}
    for work in works:
        pending = {step.title for step in work.record.pending(work.steps)}
        for protocol in plan.plan.protocols:
            if f"evaluate {protocol}" in pending:
                continue
            folder = work.folder / paths.results(plan.dataset, work.job.method, protocol)
            of_method = found.setdefault(protocol, {}).setdefault(work.job.method, {})
            of_method[work.job.seed] = find_result(str(folder))
    return {name: found[name] for name in plan.plan.protocols if name in found}


def _json(mean: SeedMean) -> dict[str, Any]:
    entry: dict[str, Any] = {"value": round(mean.estimate.value, 6)}
    if mean.estimate.ci95:
        entry["ci95"] = [round(end, 6) for end in mean.estimate.ci95]
    return entry | {"units": mean.estimate.units, "seeds": [round(v, 6) for v in mean.values]}


def _pairs(plan: MethodPlan, methods: Sequence[str], results: Results) -> list[dict[str, Any]]:
    """Every pair of methods, the first listed as A: differences by video on the seeds that both have.

    p of a measure is adjusted for its pairs (Holm, Scandinavian Journal of Statistics 1979), and so is the
    verdict.
    """
    rows: list[tuple[str, str, str, MeasureDifference]] = []
    notes: dict[tuple[str, str, str], str] = {}
    for protocol, of in results.items():
        for a, b in combinations([m for m in methods if m in of], 2):
            try:
                found = compare(*_of_equal_seeds(plan, of, a, b))
            except UserError as error:
                notes[protocol, a, b] = str(error)
                continue
            rows += [(protocol, a, b, one) for one in found.differences if not one.split]
    adjusted = holm([((protocol, one.measure, one.metric), one.p) for protocol, _, _, one in rows])
    pairs = [
        {"protocol": protocol, "method_a": a, "method_b": b}
        | {key: value for key, value in asdict(one).items() if value not in (None, "")}
        | {"p_holm": p, "verdict": _verdict(one, p)}
        for (protocol, a, b, one), p in zip(rows, adjusted, strict=True)
    ]
    return pairs + [
        {"protocol": protocol, "method_a": a, "method_b": b, "missing": why}
        for (protocol, a, b), why in notes.items()
    ]


def _of_equal_seeds(
    plan: MethodPlan, of: Mapping[str, Mapping[int, LoadedResult]], a: str, b: str
) -> tuple[LoadedResult, LoadedResult]:
    """Both results, of the seeds that both have; one without training is the same with every seed."""
    untrained = [m for m in (a, b) if m not in plan.trained]
    trained = [set(of[m]) for m in (a, b) if m not in untrained]
    seeds = sorted(set.intersection(*trained)) if trained else [0]
    if not seeds:
        raise UserError(f"{a} and {b} have no seed in common")
    one, other = (
        repeated(next(iter(of[m].values())), seeds, m)
        if m in untrained
        else as_one({seed: of[m][seed] for seed in seeds}, m)
        for m in (a, b)
    )
    return one, other


def holm(tests: Sequence[tuple[Any, float | None]]) -> list[float | None]:
    """p of each test adjusted for all of its family; None stays None. `tests`: family, p."""
    adjusted: list[float | None] = [None] * len(tests)
    for family in dict.fromkeys(name for name, _ in tests):
        ranked = sorted(
            (p, i) for i, (name, p) in enumerate(tests) if name == family and p is not None
        )
        least = 0.0
        for rank, (p, i) in enumerate(ranked):
            least = max(least, min(1.0, (len(ranked) - rank) * p))
            adjusted[i] = float(f"{least:.6g}")
    return adjusted


def _verdict(one: MeasureDifference, p: float | None) -> str:
    """B against A by the adjusted p; a difference that was none stays none."""
    told = one.verdict in (ComparisonVerdict.BETTER, ComparisonVerdict.WORSE)
    if told and p is not None and p >= 1 - LEVEL:
        return ComparisonVerdict.SAME.value
    return one.verdict.value


def headline(protocol: str, keys: Sequence[str]) -> list[str]:
    """The measures of a protocol that stand for it, of `<entry>/<metric>`: hm, each number of shots, mAP."""
    if protocol == "reid":
        return [key for key in keys if key.endswith("/mAP")]
    if harmonic := [key for key in keys if key.rpartition("/")[0].rpartition("/")[2] == "hm"]:
        return harmonic
    return [key for key in keys if key.endswith("/top1")]


def key_title(protocol: str, key: str) -> str:
    """A protocol's measure `<entry>/<metric>` as a reader knows it; the protocol's own entry is not named."""
    entry, _, metric = key.rpartition("/")
    return measure_title("" if entry == protocol else entry, metric)
