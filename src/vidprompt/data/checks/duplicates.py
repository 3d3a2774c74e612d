"""Find copies of videos in a manifest: equal files by their hash, similar pictures by their fingerprint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vidprompt.data.manifest.copies import connected, contents
from vidprompt.data.manifest.table import usable
from vidprompt.data.probe.picture_fingerprint import FRAMES, HEX_DIGITS

LISTED, NAMED = 20, 5  # groups in a report, videos named of each
_SPACE_BITS = 26  # of 256 that may differ
_TIME_SHARE, _TIME_BITS = 0.3, 4  # of the bits that either has, or so many
_LENGTH_SHARE = 0.1  # by which the longer video may be longer
_NEIGHBOURS = (
    3  # compared with each in a bucket, so that a large bucket costs no more than its size
)
_BIT_COUNTS = np.array([bin(i).count("1") for i in range(256)], dtype=np.uint8)

_WORD = np.uint32(1 << 16)

Bytes = NDArray[np.uint8]


def duplicates_report(manifest: pd.DataFrame) -> dict[str, Any]:
    """`exact` and `near` duplicates: groups, videos in them, groups with training and other videos, of
    several labels, and the first groups. Near ones are no copies of one file (of these, one counts).
    """
    manifest = manifest.sort_values("video_id", kind="stable").reset_index(drop=True)
    content = contents(manifest)
    exact = [list(rows) for rows in manifest.groupby(content).indices.values()]
    first = ~content.notna() | ~content.duplicated()
    singles = manifest[first & usable(manifest)]
    near: list[list[int]] = []
    if "fingerprint" in singles:
        place = np.flatnonzero((first & usable(manifest)).to_numpy())
        prints = singles["fingerprint"].astype(object).fillna("").tolist()
        length = singles["duration"].where(singles["duration"] > 0, singles["n_frames"])
        groups = near_groups(prints, length.to_numpy(dtype=np.float64))
        near = [[int(place[row]) for row in group] for group in groups]
    return {"exact": _summary(manifest, exact), "near": _summary(manifest, near)}


def near_duplicates_note(near: Mapping[str, Any]) -> str:
    """A sentence on the near duplicates of a report; "" without any."""
    if not near["groups"]:
        return ""
    across = near["in_training_and_test"]
    return (
        f"{near['videos']:,} videos look like one another (encoded again, or cut from one film), in "
        f"{near['groups']:,} groups, {across:,} of them in training and test; first: "
        f"{', '.join(near['first'][0])}"
    )


def near_groups(fingerprints: Sequence[str], lengths: NDArray[np.float64]) -> list[list[int]]:
    """Groups of rows with similar fingerprints and lengths (of one unit); rows without one are in none.

    Rows are put into buckets by 32 bits of their fingerprints, in 24 ways, and compared with their neighbours
    in a bucket only: the time is linear in the rows, up to sorting.
    """
    rows = np.array(
        [i for i, text in enumerate(fingerprints) if len(text) == HEX_DIGITS], dtype=int
    )
    if len(rows) < 2:
        return []
    data = bytes.fromhex("".join(fingerprints[i] for i in rows))
    bits = np.frombuffer(data, dtype=np.uint8).reshape(len(rows), -1)
    length = lengths[rows]
    words = bits[:, : 8 * FRAMES].copy().view(np.uint16).reshape(len(rows), FRAMES, 4)
    words = words.astype(np.uint32)
    pairs = [
        pair
        for one, other in combinations(range(FRAMES), 2)
        for band in range(4)
        for pair in _bucket_pairs(words[:, one, band] * _WORD + words[:, other, band], bits, length)
    ]
    return [[int(rows[i]) for i in group] for group in connected(pairs)]


def _bucket_pairs(
    key: NDArray[np.uint32], bits: Bytes, length: NDArray[np.float64]
) -> Iterable[tuple[int, int]]:
    """Similar pairs among neighbours of equal keys, those of similar length beside each other."""
    order = np.lexsort((length, key))
    for distance in range(1, _NEIGHBOURS + 1):
        one, other = order[:-distance], order[distance:]
        equal = key[one] == key[other]
        one, other = one[equal], other[equal]
        good = _similar(bits[one], bits[other], length[one], length[other])
        yield from zip(one[good].tolist(), other[good].tolist(), strict=True)


def _similar(
    one: Bytes, other: Bytes, length: NDArray[np.float64], other_length: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether each two fingerprints and lengths are those of one video, encoded twice."""
    differ = _BIT_COUNTS[one ^ other]
    either = _BIT_COUNTS[one | other]
    space = slice(None, 8 * FRAMES)
    time = slice(8 * FRAMES, None)
    changed = differ[:, time].sum(axis=1, dtype=int)
    allowed = np.maximum(_TIME_BITS, _TIME_SHARE * either[:, time].sum(axis=1, dtype=int))
    longer = np.abs(length - other_length) <= _LENGTH_SHARE * np.maximum(length, other_length)
    near: NDArray[np.bool_] = differ[:, space].sum(axis=1, dtype=int) <= _SPACE_BITS
    return near & (changed <= allowed) & longer


def _summary(manifest: pd.DataFrame, groups: Sequence[Sequence[int]]) -> dict[str, Any]:
    ids = manifest["video_id"].to_numpy()
    labels = (manifest["source"] + "/" + manifest["label"]).to_numpy()
    roles = manifest.get("split1", pd.Series([""] * len(manifest))).astype(object).fillna("")
    named = sorted(sorted(str(ids[row]) for row in group)[:NAMED] for group in groups)
    apart = [{roles[row] == "train" for row in group if roles[row]} for group in groups]
    return {
        "groups": len(groups),
        "videos": sum(map(len, groups)),
        "in_training_and_test": sum(len(sides) == 2 for sides in apart),
        "of_several_labels": sum(len({labels[row] for row in group}) > 1 for group in groups),
        "first": named[:LISTED],
    }
