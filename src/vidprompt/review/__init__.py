"""What a pull request changes, and whether its results can be trusted: `vidprompt review`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

from vidprompt.errors import UserError
from vidprompt.review.findings import Review
from vidprompt.review.proof import Finding
from vidprompt.review.sides import Side, sides

CLASSES = 6  # named beside a result, those that changed most
README = "README.md"
REPORTS = ("review.md", "summary.md", "review.html")


def review(
    base: str = "", *, remotes: bool = False, draw: bool = True, root: Path = Path()
) -> Review:
    """Compare the project in `root`, as it lies on disk, with a revision (see `sides`).

    `remotes`: ask DVC's remotes for predictions and manifests that its cache has not. `draw`: with pictures.
    Raises UserError.
    """
    with chdir(root):  # DVC names stages and files from where it stands
        return _review(base, remotes, draw, Path.cwd())


def _review(base: str, remotes: bool, draw: bool, root: Path) -> Review:
    from vidprompt.review import (
        cost_diff,
        data_diff,
        params_diff,
        pictures,
        proof,
        recount,
        result_diff,
        training_diff,
    )
    from vidprompt.review.store import Store

    one, two = sides(root, base)
    with Store(root, remotes) as store:
        pipeline = proof.pipeline(two, store)
        again = recount.recount(two, store)
        results, unchanged = result_diff.differences(one, two, store)
        data = data_diff.data(one, two, store)
        failed = tuple(store.failed)
    drawn, *undrawn = pictures.pictures(one, two, results) if draw else ([], 0, 0)
    return Review(
        base=one,
        head=two,
        pipeline=pipeline,
        recount=again,
        others=(*_stale_stages(two), *_old_table(two)),
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

    What an earlier review left in the folder is removed.
    """
    from vidprompt.atomic import replacing, write_text
    from vidprompt.review.page import as_page
    from vidprompt.review.report import as_markdown

    text = as_markdown(found)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    for picture in found.pictures:
        with replacing(folder / picture.name) as temporary:
            temporary.write_bytes(picture.png)
    title = text.partition("\n")[0].removeprefix("# ")
    write_text(folder / REPORTS[0], text)
    write_text(folder / REPORTS[1], as_markdown(found, pictures=False))
    write_text(folder / REPORTS[2], as_page(text, found.pictures, title))
    return folder / REPORTS[0]


def _classes(
    base: Side, head: Side, result: tuple[str, str, str]
) -> list[tuple[str, float, float]]:
    from vidprompt.review.pictures import class_accuracies

    table = class_accuracies(base, head, result)
    table = table[table["base"] != table["head"]]
    rows = [(str(r["class"]), float(r["base"]), float(r["head"])) for r in table.to_dict("records")]
    return sorted(rows, key=lambda row: (-abs(row[2] - row[1]), row[0]))[:CLASSES]


def _stale_stages(head: Side) -> Iterator[Finding]:
    """params/stages.yaml has to be what pipeline.yaml and the datasets' files say."""
    from vidprompt import activation

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
    from vidprompt.evaluation.measures import metrics_rows
    from vidprompt.evaluation.table import BEGIN, END, markdown_table

    text = (head.read(README) or b"").decode("utf-8", "replace")
    if BEGIN not in text or END not in text or "demo" not in {r[0] for r in head.results}:
        return
    shown = text.partition(BEGIN)[2].partition(END)[0].strip()
    if shown != markdown_table(metrics_rows("demo", head.root / "results")).strip():
        yield Finding(
            README, "its table is not that of results/: `vidprompt table demo --readme` writes it"
        )
