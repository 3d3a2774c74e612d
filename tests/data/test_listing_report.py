"""What a person reads about the files that are there."""

from __future__ import annotations

from pathlib import Path

from vidprompt.data.annotations import Annotation
from vidprompt.data.probe.listing_report import listing_report


def _row(source: str, number: int, role: str = "train") -> Annotation:
    path = f"videos/wave/{number}.avi"
    return Annotation(f"{source}/{number}", source, path, "video", "wave", "", split1=role)


def test_counts_by_source_and_role_and_where_the_missing_are_written() -> None:
    rows = [_row("a", 1), _row("a", 2), _row("a", 3, "test")]
    assert list(listing_report(rows, [True, False, False], Path("missing.csv"))) == [
        "a: 3 listed, 2 found, 1 missing (written to missing.csv)",
        "a split1 test: 1 listed, 1 found",
        "a split1 train: 2 listed, 1 found, 1 missing",
    ]


def test_a_source_of_which_nothing_is_there_is_a_warning_before_all_numbers() -> None:
    rows = [*(_row("a", n) for n in range(1200)), _row("b", 1), _row("b", 2)]
    missing = [*([True] * 1200), True, False]
    first, *others = listing_report(rows, missing, Path("missing.csv"))
    assert first.startswith(
        "warning: none of the 1,200 listed videos was found below the folder of a: the first would be "
        "videos/wave/0.avi there."
    )
    assert not any(sentence.startswith("warning") for sentence in others)
    assert "a: 1,200 listed, 0 found, 1,200 missing (written to missing.csv)" in others
