"""Spans: where they begin and end."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidprompt.prediction.hysteresis import SpanSettings, WindowScores, join_windows
from vidprompt.prediction.results import Span
from vidprompt.system.errors import UserError

NAMES = ("open", "close", "run")
PLAIN = SpanSettings(smoothing=0, min_length=0)


def scores(
    rows: list[list[float]],
    window: float = 2.0,
    stride: float = 1.0,
    cosines: list[float] | None = None,
) -> list[WindowScores]:
    best = cosines or [1.0] * len(rows)
    return [
        WindowScores(
            k * stride, k * stride + window, np.array(row, np.float32), np.array([best[k]] * 3)
        )
        for k, row in enumerate(rows)
    ]


def spans(rows: list[list[float]], settings: SpanSettings = PLAIN, **other: object) -> list[tuple]:
    found = join_windows(scores(rows, **other), NAMES, settings)  # type: ignore[arg-type]
    return [(one.start, one.end, one.label, round(one.score, 3)) for one in found]


O, C, N = [0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.34, 0.33, 0.33]  # noqa: E741
WEAK = [0.55, 0.25, 0.2]  # above leave (0.5 of three classes), below enter (0.667)


def test_a_span_lasts_until_its_class_falls_below_leave() -> None:
    rows = [WEAK, O, WEAK, WEAK, [0.2, 0.4, 0.4], O]
    assert spans(rows) == [(1.5, 4.5, "open", 0.633), (5.5, 7, "open", 0.8)]


def test_overlapping_windows_count_from_middle_to_middle() -> None:
    assert spans([O, O, C, C]) == [(0, 2.5, "open", 0.8), (2.5, 5, "close", 0.8)]
    assert spans([O, C], stride=2.0) == [(0, 2, "open", 0.8), (2, 4, "close", 0.8)]
    assert spans([O, O, C], stride=5.0) == [(0, 7, "open", 0.8), (10, 12, "close", 0.8)]


def test_one_doubtful_window_does_not_break_a_span_when_it_is_smoothed() -> None:
    rows = [O, O, O, [0.25, 0.65, 0.1], O, O]
    assert len(spans(rows)) == 2
    assert spans(rows, SpanSettings()) == [(0, 7, "open", pytest.approx(0.708, abs=1e-3))]


def test_windows_that_alternate_are_no_span_of_the_windows_between() -> None:
    """A mean of equal weights over three windows would be high exactly where the class is not."""
    assert spans([[0.98, 0.01, 0.01], [0.01, 0.495, 0.495]] * 5, SpanSettings(min_length=1.6)) == []


def test_short_spans_are_left_out() -> None:
    rows = [N, O, N, O, O, O, N]
    settings = SpanSettings(smoothing=0, min_length=2.0)
    assert spans(rows, settings, window=1.0) == [(3, 6, "open", 0.8)]


def test_unknown_windows_are_in_no_span() -> None:
    settings = SpanSettings(smoothing=0, min_length=0, unknown=0.2)
    found = spans([O, O, O, O], settings, cosines=[0.3, 0.3, 0.1, 0.3], window=1.0)
    assert found == [(0, 2, "open", 0.8), (3, 4, "open", 0.8)]


def test_spans_come_when_they_end() -> None:
    def endless():
        yield from scores([O] * 3 + [C] * 5)
        raise AssertionError("a window too many was asked for")

    assert next(join_windows(endless(), NAMES, SpanSettings())).label == "open"


@given(
    st.lists(st.lists(st.floats(0.01, 1), min_size=3, max_size=3), min_size=1, max_size=40),
    st.sampled_from([0.25, 1.0, 2.0, 3.0]),
    st.sampled_from([SpanSettings(), PLAIN, SpanSettings(enter=0.4, leave=0.2, smoothing=6)]),
)
def test_spans_are_in_order_within_the_video_and_do_not_overlap(
    rows: list[list[float]], stride: float, settings: SpanSettings
) -> None:
    windows = scores([[value / sum(row) for value in row] for row in rows], stride=stride)
    found: list[Span] = list(join_windows(windows, NAMES, settings))
    assert all(0 <= one.start < one.end <= windows[-1].end for one in found)
    assert all(a.end <= b.start + 1e-9 for a, b in pairwise(found))


@pytest.mark.parametrize(
    "wrong",
    [{"enter": 0.0}, {"leave": 0}, {"enter": 1.5}, {"smoothing": -1}, {"min_length": float("inf")}],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError):
        SpanSettings(**wrong)


def test_thresholds_stand_between_chance_and_certainty() -> None:
    assert SpanSettings().thresholds(2) == (0.75, 0.625)
    assert SpanSettings().thresholds(10) == pytest.approx((0.55, 0.325))
    assert SpanSettings(enter=0.2).thresholds(4) == (0.2, 0.2)
    with pytest.raises(UserError, match="leave"):
        SpanSettings(leave=0.9).thresholds(3)
