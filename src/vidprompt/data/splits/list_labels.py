"""Name the classes of a published list: by the manifest's labels of its videos, checked against a label map.

The videos decide: a label map that calls them otherwise is reported, and the manifest's names are taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from vidprompt.data.annotations.base import is_id
from vidprompt.data.annotations.list_files import ListedVideo
from vidprompt.system.errors import DataError

NAMED = 5  # classes named in a message


def label_column(
    rows: Sequence[ListedVideo],
    annotated: Sequence[str],
    frames: Sequence[int],
    names: Mapping[str, str] | None = None,
) -> Sequence[str]:
    """The labels of a list's rows: its last column, or the one before where the manifest says so.

    Of `path a b`, b is the label and a the number of frames, as the field writes lists. But a is the label
    where only a tells the same classes apart as `annotated` does; or both do, and b is the known number of
    frames (`frames`; below 1: unknown) of more videos than a is, or else the label map (`names`) gives more
    of a's ids than of b's the annotated class.
    """
    last = [row.label for row in rows]
    before = [str(row.n_frames) for row in rows if row.n_frames is not None]
    if len(before) < len(rows) or not all(map(is_id, last)) or not _same_classes(before, annotated):
        return last
    if not _same_classes(last, annotated):
        return before
    known = [
        (a, b, str(count)) for a, b, count in zip(before, last, frames, strict=True) if count > 0
    ]
    of_before, of_last = sum(a == n for a, _, n in known), sum(b == n for _, b, n in known)
    if of_before == of_last and names is not None:
        of_last, of_before = (
            sum(
                folded(names.get(str(int(i)), "")) == folded(c)
                for i, c in zip(ids, annotated, strict=True)
            )
            for ids in (before, last)
        )
    return before if of_last > of_before else last


def name_classes(
    rows: Sequence[ListedVideo],
    labels: Sequence[str],
    annotated: Sequence[str],
    names: Mapping[str, str] | None,
    known: Collection[str],
) -> tuple[list[int], list[str], str]:
    """The place of each row's class, the classes in the order of their ids, and what was not as it should be.

    Args:
        rows: of a list.
        labels: of each row its label, an id or a name.
        annotated: the manifest's class of each row's video.
        names: the label map, id → name. Its classes without a listed video are classes of the list too.
        known: every class of the manifest.

    Raises DataError for a label that stands for several classes, for two labels of one class, and for one
    that the label map lacks.
    """
    keys = _keys(rows, labels, names)
    by_key = _class_of_each(keys, rows, annotated)
    if names is None:
        every = sorted(by_key, key=lambda key: (is_id(key), int(key) if is_id(key) else 0, key))
        given = {key: key for key in every if not is_id(key)}
    else:
        every, given = sorted(names, key=int), dict(names)
    by_folded = {folded(name): name for name in sorted(known)}
    mapped = {
        key: name if name in known else by_folded.get(folded(name), name)
        for key, name in given.items()
    }
    classes = [by_key.get(key) or _left(key, mapped, by_key) for key in every]
    twice = next((name for name, count in Counter(classes).items() if count > 1), None)
    if twice is not None:
        one, other = [key for key, name in zip(every, classes, strict=True) if name == twice][:2]
        where = next(row.where for row, key in zip(rows, keys, strict=True) if key in (one, other))
        raise DataError(
            f"{where}: labels {one} and {other} are both {twice!r}, by the manifest's labels of their videos "
            "and the label map: give the label map of this list"
        )
    place = {key: i for i, key in enumerate(every)}
    return [place[key] for key in keys], classes, _report(mapped, by_key, known, keys)


def folded(name: str) -> str:
    """A class's name without what releases write differently: case, blanks and signs."""
    return "".join(c for c in name.casefold() if c.isalnum())


def _keys(
    rows: Sequence[ListedVideo], labels: Sequence[str], names: Mapping[str, str] | None
) -> list[str]:
    """Each row's label as a key: an id without leading zeros, of a name in the label map its id."""
    written = {label: str(int(label)) if is_id(label) else label for label in set(labels)}
    keys = [written[label] for label in labels]
    if names is None:
        if len({is_id(key) for key in keys}) > 1:
            odd = next(i for i, key in enumerate(keys) if is_id(key) != is_id(keys[0]))
            raise DataError(
                f"{rows[odd].where}: label {labels[odd]!r}: some labels are ids and some are names; "
                "give a label map that holds them all"
            )
        return keys
    ids = {name: number for number, name in names.items()}
    for i, key in enumerate(keys):
        keys[i] = key if key in names else ids.get(labels[i], "")
        if not keys[i]:
            raise DataError(
                f"{rows[i].where}: label {labels[i]!r} is not in the label map, which has {len(names)} "
                "classes: a label map is needed that names every id in the list"
            )
    return keys


def _class_of_each(
    keys: Sequence[str], rows: Sequence[ListedVideo], annotated: Sequence[str]
) -> dict[str, str]:
    """Key → the one class of its videos."""
    by_key: dict[str, str] = {}
    for key, row, name in zip(keys, rows, annotated, strict=True):
        if by_key.setdefault(key, name) != name:
            raise DataError(
                f"{row.where}: label {key} stands for {by_key[key]!r} before and for {name!r} here, as "
                "the manifest labels the videos: is this a list of this dataset, and are its labels these?"
            )
    return by_key


def _left(key: str, mapped: Mapping[str, str], by_key: Mapping[str, str]) -> str:
    """The class of an id without videos: its name in the label map, or the one that is left of a swap.

    Where the map's name is the class of another id's videos, it is the name that the map gives that id, and
    so on.
    """
    by_class = {name: other for other, name in by_key.items()}
    name = mapped[key]
    for _ in by_class:
        if name not in by_class or by_class[name] not in mapped:
            break
        name = mapped[by_class[name]]
    return name


def _report(
    mapped: Mapping[str, str],
    by_key: Mapping[str, str],
    known: Collection[str],
    keys: Sequence[str],
) -> str:
    """A sentence on the classes that the label map (or the list) calls otherwise than the manifest."""
    wrong = [key for key, name in by_key.items() if key in mapped and mapped[key] != name]
    if not wrong:
        return ""
    named = []
    for key in wrong[:NAMED]:
        count = keys.count(key)
        videos = f"{count:,} videos are" if count > 1 else "video is"
        other = "" if mapped[key] in known else " (no class of the manifest)"
        named.append(f"{key} is {mapped[key]!r}{other} there, and its {videos} {by_key[key]!r}")
    more = f", and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
    doubt = ": is it the map of this list?" if 2 * len(wrong) > len(by_key) else ""
    return (
        f"the labels of {len(wrong)} of {len(by_key)} classes contradict the videos, whose classes are taken "
        f"({'; '.join(named)}{more}){doubt}"
    )


def _same_classes(ids: Sequence[str], annotated: Sequence[str]) -> bool:
    """Whether there is one id for each annotated class, and one class for each id."""
    pairs = set(zip(ids, annotated, strict=True))
    return len(pairs) == len(set(ids)) == len(set(annotated))
