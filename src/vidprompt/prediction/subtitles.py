"""Write spans as subtitles: WebVTT and SubRip (SRT)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from vidprompt.prediction.results import Span

_SPACE = re.compile(r"[\s\x00-\x1f]+")  # line breaks end a cue


def webvtt(spans: Iterable[Span]) -> Iterator[str]:
    """The lines of a WebVTT file (https://www.w3.org/TR/webvtt1/), with the class and its score as text."""
    yield "WEBVTT"
    yield ""
    for number, (begin, end, text) in enumerate(_cues(spans), 1):
        yield str(number)
        yield f"{_time(begin, '.')} --> {_time(end, '.')}"
        yield text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        yield ""


def subrip(spans: Iterable[Span]) -> Iterator[str]:
    """The lines of an SRT file. It has no escapes: signs that players take for tags are replaced."""
    for number, (begin, end, text) in enumerate(_cues(spans), 1):
        yield str(number)
        yield f"{_time(begin, ',')} --> {_time(end, ',')}"
        yield text.replace("<", "‹").replace(">", "›").replace("{", "(").replace("}", ")")
        yield ""


def _cues(spans: Iterable[Span]) -> Iterator[tuple[int, int, str]]:
    """Begin and end in milliseconds, and the text; none is empty, none begins before the one before ends."""
    before = 0
    for span in spans:
        begin = max(before, round(span.start * 1000))
        end = max(begin + 1, round(span.end * 1000))
        before = end
        yield begin, end, f"{_SPACE.sub(' ', span.label).strip()} ({span.score:.0%})"


def _time(milliseconds: int, point: str) -> str:
    """HH:MM:SS.mmm; hours have more digits where they need them."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{rest:03}"
