"""Collect a decoder's error messages, refused packets and corrupt frames during a decode in order.

FFmpeg conceals what it cannot decode: it writes to its log, marks frames as corrupt, or refuses a
packet. The frames alone do not show it.
"""

from __future__ import annotations

import re
from types import TracebackType
from typing import Any

_SIZE = re.compile(r"[Pp]icture size (\d+)x(\d+)")
_MAX_REASON = 120  # characters of a message


class DecoderLog:
    """`with DecoderLog() as log:` around a decode in order, in the thread that decodes.

    Of `packets`, the decoder refused `refused` and logged an error for `criticised`; `damaged` frames
    are marked as corrupt, and `misplaced` frames are not later than the one before. `first_frame` is
    the number (from 0) of the frame that was to come at the first problem, None without any; `reason`
    is that problem's message. False when there was no problem.
    """

    def __init__(self) -> None:
        self.packets = self.refused = self.criticised = self.damaged = self.misplaced = 0
        self.first_frame: int | None = None
        self.reason = ""
        self.too_large: tuple[int, int] | None = None  # width and height FFmpeg would not decode
        self._messages: list[Any] = []
        self._last_time: int | None = None  # pts of the last frame

    def __enter__(self) -> DecoderLog:
        from av import logging

        self._before = logging.get_level(), logging.get_skip_repeated()
        logging.set_level(logging.ERROR)
        logging.set_skip_repeated(False)
        self._capture = logging.Capture(local=True)
        self._messages = self._capture.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        from av import logging

        self._capture.__exit__(None, None, None)
        logging.set_level(self._before[0])
        logging.set_skip_repeated(self._before[1])

    def collect(self, frame: int) -> bool:
        """Take the messages since the last call, before frame number `frame`; whether there are any."""
        if not self._messages:
            return False
        messages = [message.strip() for _, _, message in self._messages]
        self._messages.clear()
        for message in messages:
            size = _SIZE.search(message)
            if size:
                self.too_large = int(size[1]), int(size[2])
        self.criticised += 1
        self._note(frame, messages[0])
        return True

    def add_refused_packet(self, frame: int, reason: str) -> None:
        """Note that a packet was refused when frame number `frame` was to come."""
        if self.collect(frame):  # the log says more than the error, and counts as the refusal
            self.criticised -= 1
        self.refused += 1
        self._note(frame, reason)

    def check_frame(self, number: int, frame: Any) -> None:
        """Note whether frame number `number` is marked as corrupt, or out of order."""
        if frame.is_corrupt:
            self.damaged += 1
            self._note(number, "frame marked as corrupt")
        if frame.pts is not None:
            if self._last_time is not None and frame.pts <= self._last_time:
                self.misplaced += 1
                self._note(number, "frames out of order")
            self._last_time = frame.pts

    def _note(self, frame: int, reason: str) -> None:
        if self.first_frame is None:
            self.first_frame, self.reason = frame, reason[:_MAX_REASON].rstrip(". ")

    def __bool__(self) -> bool:
        return self.first_frame is not None

    @property
    def sentence(self) -> str:
        """The counts and the first problem: "FFmpeg refused 3 packets, first at frame 7: …"."""
        counts = [
            (self.refused, "refused {} packet{s}"),
            (self.damaged, "gave {} damaged frame{s}"),
            (self.misplaced, "gave {} frame{s} out of order"),
            (self.criticised, "complained {} time{s}"),
        ]
        phrases = [form.format(f"{n:,}", s="s" * (n != 1)) for n, form in counts if n]
        text = (
            f"{', '.join(phrases[:-1])} and {phrases[-1]}" if len(phrases) > 1 else "".join(phrases)
        )
        return f"FFmpeg {text}, first at frame {self.first_frame}: {self.reason}."
