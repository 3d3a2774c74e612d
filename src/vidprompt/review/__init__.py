"""What a pull request changes, and whether its results can be trusted: `vidprompt review`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

from vidprompt.pipeline.stage_costs import cost_file, parsed_costs
from vidprompt.provenance.lock_report import Finding
from vidprompt.review.findings import Review
from vidprompt.review.sides import Side, find_sides
from vidprompt.system.errors import UserError

CLASSES = 6  # named beside a result, those that changed most
README = "README.md"
REPORTS = ("review.md", "summary.md", "review.html")
WRITTEN = ".review.json"  # names what a review wrote into its folder


def review(
    base: str = "",
    *,
    remotes: bool = False,
    draw: bool = True,
    root: Path = Path(),
    out: Path | None = None,
) -> Review:
    """Compare the project in `root`, as it lies on disk, with a revision (see `sides`).

    `remotes`: ask DVC's remotes for predictions and manifests that its cache has not. `draw`: with pictures.
    `out`: the folder that `write` gets; what lies there is no change. Raises UserError.
    """
    out = None if out is None else out.absolute()
    with chdir(root):  # DVC names stages and files from where it stands
        return _review(base, remotes, draw, Path.cwd(), out)


def _review(base: str, remotes: bool, draw: bool, root: Path, out: Path | None) -> Review:
    from vidprompt.provenance.dvc_project import DvcProject
    from vidprompt.provenance.lock_check import check_project
    from vidprompt.recompute import results as recount
    from vidprompt.review import (
        cost_diff,
        data_diff,
        params_diff,
        pictures,
        result_diff,
        training_diff,
    )

    one, two = find_sides(root, base, out)
    with DvcProject(two, remotes=remotes) as store:
        pipeline = check_project(store)
        again = recount.recount(two, store)
        results, unchanged = result_diff.differences(one, two, store)
        data = data_diff.data(one, two, store)
        failed = store.problems
    drawn, *undrawn = pictures.pictures(one, two, results) if draw else ([], 0, 0)
    return Review(
        base=one,
        head=two,
        pipeline=pipeline,
        recount=again,
        others=(*_unreadable(two), *_stale_stages(two), *_old_table(two)),
        results=results,
        unchanged=unchanged,
        params=params_diff.params(one, two),
        stages=params_diff.stages(one, two),
        data=data,
        trainings=training_diff.trainings(one, two),
        costs=cost_diff.costs(one, two),
        classes={r.result: found for r in results if (found := _classes(one, two, r.result))},
        pictures=drawn,
        undrawn=(undrawn[0], undrawn[1]),
        remotes=failed,
    )


def write(found: Review, folder: Path) -> Path:
    """Write review.md with its pictures, summary.md without, and review.html; returns review.md's path.

    What an earlier review wrote there is removed: `.review.json` names it. Raises UserError for a folder with
    other files, and where nothing can be written.
    """
    from vidprompt.files.atomic import replacing, write_json, write_text
    from vidprompt.review.page import as_page, cut
    from vidprompt.review.report import as_markdown

    text = as_markdown(found)
    title = text.partition("\n")[0].removeprefix("# ")
    names = sorted((*REPORTS, *(picture.name for picture in found.pictures)))
    try:
        for old in _written(folder):
            (folder / old).unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / WRITTEN, names)
        for picture in found.pictures:
            with replacing(folder / picture.name) as temporary:
                temporary.write_bytes(picture.png)
        write_text(folder / REPORTS[0], text)
        write_text(folder / REPORTS[1], cut(as_markdown(found, pictures=False)))
        write_text(folder / REPORTS[2], as_page(text, found.pictures, title))
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}): name another --out"
        ) from error
    return folder / REPORTS[0]


def _written(folder: Path) -> list[str]:
    """What an earlier review wrote into a folder; nothing but plain names of such files."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return []
    try:
        names = json.loads((folder / WRITTEN).read_bytes())
    except (OSError, ValueError):
        names = None
    if not isinstance(names, list):
        raise UserError(
            f"{folder} has files and no {WRITTEN} of an earlier review: name an empty --out, or one that is "
            "not there yet"
        )
    pictures = re.compile(r"[\w.-]+\.png")
    return [n for n in names if isinstance(n, str) and (n in REPORTS or pictures.fullmatch(n))]


def _classes(
    base: Side, head: Side, result: tuple[str, str, str]
) -> list[tuple[str, float, float]]:
    from vidprompt.review.pictures import class_accuracies

    table = class_accuracies(base, head, result)
    table = table[table["base"] != table["head"]]
    rows = [(str(r["class"]), float(r["base"]), float(r["head"])) for r in table.to_dict("records")]
    return sorted(rows, key=lambda row: (-abs(row[2] - row[1]), row[0]))[:CLASSES]


def _unreadable(head: Side) -> Iterator[Finding]:
    """Files of results that are left out because they cannot be read."""
    for path in head.malformed_results:
        yield Finding(path, "it has not the form of a result: `dvc repro` writes it again")
    for dataset in head.datasets:
        path = cost_file(dataset).as_posix()
        try:
            parsed_costs(head.read(path) or b"{}")
        except ValueError as error:
            yield Finding(path, f"it cannot be read ({error}): delete it, and run `vidprompt cost`")


def _stale_stages(head: Side) -> Iterator[Finding]:
    """params/stages.yaml has to be what pipeline.yaml and the datasets' files say."""
    from vidprompt.pipeline import matrix as activation

    pipeline = "params/pipeline.yaml"
    if pipeline not in head.files:
        return
    try:
        if activation.stale():
            yield Finding("params/stages.yaml", "not what pipeline.yaml says: `vidprompt activate`")
    except UserError as error:
        yield Finding(pipeline, f"{error}")


def _old_table(head: Side) -> Iterator[Finding]:
    """README.md's table has to be that of the results."""
    from vidprompt.reporting.measures import read_rows
    from vidprompt.reporting.table import BEGIN, END, markdown_table

    text = (head.read(README) or b"").decode("utf-8", "replace")
    if BEGIN not in text or END not in text or "demo" not in {r[0] for r in head.results}:
        return
    shown = text.partition(BEGIN)[2].partition(END)[0].strip()
    try:
        wanted = markdown_table(read_rows("demo", head.root / "results")).strip()
    except UserError as error:
        yield Finding(README, f"its table cannot be compared: {error}")
        return
    if shown != wanted:
        yield Finding(
            README, "its table is not that of results/: `vidprompt table demo --readme` writes it"
        )
