"""What a decoder complains about while it decodes: often the only trace of damage.

FFmpeg conceals what it cannot decode. It says so in its log, marks frames as corrupt, or refuses a
packet; a program that looks at the frames alone sees nothing.
"""

from __future__ import annotations

import re
from types import TracebackType
from typing import Any

_SIZE = re.compile(r"[Pp]icture size (\d+)x(\d+)")
_LONGEST = 120  # characters of a message


class Complaints:
    """`with Complaints() as complaints:` around a decode in order, in the thread that decodes.

    `packets` were decoded, of which the decoder refused `refused` outright and criticised
    `criticised` in its log; `damaged` frames were given, but marked as corrupt, and `misplaced`
    frames are not later than the one before. `first` is the number (from 0) of the frame that was
    to come when the first trouble was met, None without any, and `reason` what was said then.
    """

    def __init__(self) -> None:
        self.packets = self.refused = self.criticised = self.damaged = self.misplaced = 0
        self.first: int | None = None
        self.reason = ""
        self.too_large: tuple[int, int] | None = None  # width and height FFmpeg would not decode
        self._log: list[Any] = []
        self._latest: int | None = None  # time of the last frame

    def __enter__(self) -> Complaints:
        from av import logging

        self._before = logging.get_level(), logging.get_skip_repeated()
        logging.set_level(logging.ERROR)
        logging.set_skip_repeated(False)
        self._capture = logging.Capture(local=True)
        self._log = self._capture.__enter__()
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

    def listen(self, frame: int) -> None:
        """Note what was logged since the last call, before frame number `frame` came."""
        if not self._log:
            return
        messages = [message.strip() for _, _, message in self._log]
        self._log.clear()
        for message in messages:
            size = _SIZE.search(message)
            if size:
                self.too_large = int(size[1]), int(size[2])
        self.criticised += 1
        self._note(frame, messages[0])

    def refuse(self, frame: int, reason: str) -> None:
        """Note that a packet was refused when frame number `frame` was to come."""
        said = len(self._log)
        self.listen(frame)  # what was logged says more than the error
        self.criticised -= bool(said)
        self.refused += 1
        self._note(frame, reason)

    def inspect(self, number: int, frame: Any) -> None:
        """Note whether frame number `number` is marked as corrupt, or out of order."""
        if frame.is_corrupt:
            self.damaged += 1
            self._note(number, "frame marked as corrupt")
        if frame.pts is not None:
            if self._latest is not None and frame.pts <= self._latest:
                self.misplaced += 1
                self._note(number, "frames out of order")
            self._latest = frame.pts

    def _note(self, frame: int, reason: str) -> None:
        if self.first is None:
            self.first, self.reason = frame, reason[:_LONGEST].rstrip(". ")

    def __bool__(self) -> bool:
        return self.first is not None

    @property
    def sentence(self) -> str:
        """What was seen, and where it began: "FFmpeg refused 3 packets, first at frame 7: …"."""
        counts = [
            (self.refused, "refused {} packet{s}"),
            (self.damaged, "gave {} damaged frame{s}"),
            (self.misplaced, "gave {} frame{s} out of order"),
            (self.criticised, "complained {} time{s}"),
        ]
        parts = [form.format(f"{n:,}", s="s" * (n != 1)) for n, form in counts if n]
        seen = f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)
        return f"FFmpeg {seen}, first at frame {self.first}: {self.reason}."
