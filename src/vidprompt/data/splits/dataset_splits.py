"""All splits of a dataset: every protocol that it takes part in, with the parameters of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from vidprompt.config.schema import DatasetConfig, Protocols, ZeroShotConfig
from vidprompt.data.splits import class_lists
from vidprompt.data.splits import protocols as splits
from vidprompt.data.splits.held_out import check_count, check_seed, check_share
from vidprompt.data.splits.split_file import Split
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import suggestion

ROLES = ("recognition", "zero_shot", "reid")
NamedSplits = Iterator[tuple[str, Split]]  # name of the split file, split


def dataset_splits(
    manifest: pd.DataFrame,
    dataset: DatasetConfig,
    protocols: Protocols,
    classes: Mapping[str, list[str]],
) -> NamedSplits:
    """All splits of a dataset; `dataset.roles` says which of its sources a protocol takes.

    Args:
        manifest: a row for each video.
        protocols: parameters of those that the dataset takes part in.
        classes: source → its classes in the official order.

    Raises UserError for an unknown role and for a wrong number of held-out videos.
    """
    roles = dataset.roles
    unknown = sorted(set(roles) - set(ROLES))
    if unknown:
        raise UserError(f"dataset.roles: unknown {unknown[0]!r}: {suggestion(unknown[0], ROLES)}")
    _check_held_out(protocols)
    rows = {role: manifest[manifest["source"] == source] for role, source in roles.items()}
    if "recognition" in rows:
        yield from _recognition(rows["recognition"], dataset.name, protocols)
    if "zero_shot" in rows and protocols.zero_shot:
        source = roles["zero_shot"]
        name = dataset.name if source == dataset.name else f"{dataset.name}_{source}"
        if protocols.zero_shot.halves and source == roles.get("recognition"):
            _check_trained_elsewhere(protocols.zero_shot.trained_on, dataset.name)
        root = Path(dataset.root)
        yield from _zero_shot(rows["zero_shot"], name, protocols.zero_shot, classes[source], root)
    if "reid" in rows and (p := protocols.reid):
        split = splits.reid(rows["reid"], dataset.name, p.tracklet, p.held_out, p.held_out_seed)
        yield "reid", split


def _check_held_out(protocols: Protocols) -> None:
    """Refuse a wrong number of any protocol before a file is written."""
    for p in (protocols.supervised, protocols.reid):
        if p:
            check_seed(p.held_out_seed, p.name)
            check_share(p.held_out, p.name)
    for q in (protocols.base_to_novel, protocols.few_shot):
        if q:
            check = check_count if q.shots else check_share
            check(q.held_out, q.name)


def _recognition(rows: pd.DataFrame, dataset: str, protocols: Protocols) -> NamedSplits:
    if one := protocols.supervised:
        for number in one.splits:
            split = splits.supervised(rows, dataset, number, one.held_out, one.held_out_seed)
            yield split.run, split
    if novel := protocols.base_to_novel:
        for seed in novel.seeds if novel.shots else novel.seeds[:1]:  # the whole set needs no draw
            split = splits.base_to_novel(
                rows, dataset, novel.split, novel.shots, seed, novel.held_out
            )
            yield split.run, split
    if few := protocols.few_shot:
        for shots in few.shots:
            for seed in few.seeds:
                split = splits.few_shot(
                    rows, dataset, few.split, shots, seed, few.nested, int(few.held_out)
                )
                yield split.run, split


def _zero_shot(
    rows: pd.DataFrame, name: str, p: ZeroShotConfig, classes: list[str], root: Path
) -> NamedSplits:
    """The tests on official lists (`test_on`), then the halves, on every listed video of their classes."""

    def test(stem: str, videos: pd.DataFrame, chosen: list[str]) -> tuple[str, Split]:
        split = splits.zero_shot(videos, f"{name}@{stem}", p.trained_on, chosen)
        return f"zero_shot_{stem.replace('-', '_')}", split

    def among(stem: str, chosen: list[str]) -> tuple[str, Split]:
        return test(f"{stem}-{p.test_on}", _official(rows, name, 1, p.test_on), chosen)

    for s in p.splits:
        stem = f"split{s}" if p.test_on == "test" else f"split{s}-{p.test_on}"
        yield test(stem, _official(rows, name, s, p.test_on), sorted(rows["label"].unique()))
    for seed in range(p.halves):
        yield test(f"half{seed}", rows, class_lists.half_classes(classes, seed))
    new = classes
    if p.known_classes:
        known = class_lists.read_classes_file(root / p.known_classes, classes)
        new = class_lists.new_classes(classes, known)
        yield among(f"{name.replace('kinetics', 'k')}-minus-{p.known_name}", new)
        if p.renamed_classes:
            renamed = class_lists.read_classes_file(root / p.renamed_classes, classes)
            new = class_lists.new_classes(new, (), renamed)
    for number, file in enumerate(p.partitions, 1):
        tested = class_lists.read_classes_file(root / file, classes)
        class_lists.check_known(tested, classes, str(root / file))
        yield among(f"partition{number}", tested)
    for seed in p.partition_seeds:
        yield among(f"seed{seed}", class_lists.draw_partition(new, p.test_classes, seed)[1])


def _official(rows: pd.DataFrame, name: str, split: int, test_on: str) -> pd.DataFrame:
    """The rows of one official list. Raises UserError when the dataset has no such list."""
    role = rows[f"split{split}"]
    if not (role == test_on).any():
        known = ", ".join(sorted(set(role) - {""})) or "none"
        raise UserError(
            f"zero_shot.test_on={test_on}: {name} has no {test_on} list in split{split} (its lists: "
            f"{known}): choose one of these, or let the reader read it (Kinetics: the source's option lists)"
        )
    return rows[role == test_on]


def _check_trained_elsewhere(trained_on: str, dataset: str) -> None:
    """Raise UserError when halves, which take training videos too, are tested with a model of the dataset."""
    home, slash, _ = trained_on.partition("/")
    if not slash or home == dataset:
        raise UserError(
            f"zero_shot.halves: random halves test every video of {dataset}, training lists included, and "
            f"trained_on={trained_on} was trained on some: name another dataset's training, or set halves: 0"
        )
