"""Lists the declared and registered models with versions, stages and headline measure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vidprompt.metrics.result import Measure, summary_measures
from vidprompt.provenance.git import check_repository
from vidprompt.provenance.revision import Revision
from vidprompt.registry.declared import declared_models, find_model, model_results
from vidprompt.registry.policy import read_policy
from vidprompt.registry.versions import Version, histories
from vidprompt.reporting.measures import Cell
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import suggestion

HEADS = ("Model", "Version", "Stages", "Commit", "Date", "Measure", "Value in %")
Entry = dict[str, Any]


def list_models(name: str = "", project: Path | str = ".") -> list[Entry]:
    """A mapping for each version, newest first, and for each model without one; by name.

    Keys: `model`, `version`, `stages`, `commit`, `date` (empty where nothing is registered), `measure`,
    `value`, `ci95` (None where the result is not there), `declared`. UserError for an unknown name, and
    outside git.
    """
    root = Path(project)
    check_repository(root)
    here = Revision(root)
    declared, tagged = declared_models(here), histories(root)
    names = sorted({*declared, *tagged})
    if name and name not in names:
        raise UserError(f"no model {name!r} is declared or registered: {suggestion(name, names)}")
    policy = read_policy(here)
    entries = []
    for model in [name] if name else names:
        measure = policy.headline.get(model, "")
        for version in tagged[model].versions if model in tagged else ():
            entries.append(_entry(model, version, measure, Revision(root, version.commit)))
        if not entries or entries[-1]["model"] != model:
            entries.append(_entry(model, None, measure, here))
    return [entry | {"declared": entry["model"] in declared} for entry in entries]


def _entry(name: str, version: Version | None, measure: str, revision: Revision) -> Entry:
    value = _value(name, measure, revision) if measure else None
    return {
        "model": name,
        "version": version.version if version else "",
        "stages": list(version.stages) if version else [],
        "commit": version.commit if version else "",
        "date": version.date if version else "",
        "measure": measure,
        "value": value.value if value else None,
        "ci95": list(value.ci95) if value and value.ci95 else None,
    }


def _value(name: str, measure: str, revision: Revision) -> Measure | None:
    """The measure of a revision's results, None where there is none."""
    try:
        model = find_model(revision, name)
        for one in model_results(model, revision):
            result = f"{one.name(model)}/"
            if measure.startswith(result):
                return summary_measures(one.result).get(measure.removeprefix(result))
    except UserError:  # of another time, when it was not declared or results had another form
        return None
    return None


def table_rows(entries: list[Entry]) -> list[tuple[str, ...]]:
    """For people: short commits, days, percentages."""
    rows: list[tuple[str, ...]] = []
    for one in entries:
        low, high = one["ci95"] or (None, None)
        value = Cell(one["value"], low, high).text if one["value"] is not None else "–"
        version, stages = one["version"] or "not registered", ", ".join(one["stages"]) or "–"
        when = (one["commit"][:7] or "–", one["date"][:10] or "–")
        rows.append((one["model"], version, stages, *when, one["measure"] or "–", value))
    return rows
