"""How a video becomes a model's clips: which frames, and how they are resized and cropped."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vidprompt.data.frames.sampling import Views, tracklet_clips
from vidprompt.data.probe.result import Limits
from vidprompt.data.shards.plan import FrameSettings
from vidprompt.data.workers.isolated import TaskResult, isolated_map
from vidprompt.prediction.decoding import DecodedVideo, Numbers, PrepareFrame, decode_video
from vidprompt.prediction.inputs import is_stream
from vidprompt.prediction.isolated_stream import isolated_stream
from vidprompt.prediction.live import live_windows
from vidprompt.prediction.windows import VideoEnd, WindowFrames, check_window, decode_windows
from vidprompt.system.errors import UserError

ALL_FRAMES = "all-frames"
MAX_TRACKLET_CLIPS = 256  # of a whole tracklet, whose clips are all encoded


@dataclass(frozen=True)
class ClipInput:
    """What a model takes of a video.

    `num_frames`: T; `image_size`: S, in pixels; `views`: clips × crops; `stored`: how the frames of its
    training are stored (None: they are taken as they are); `whole`: clips that cover all frames, as
    re-identification's tests have it, instead of the views' clips.
    """

    num_frames: int
    image_size: int
    views: Views
    stored: FrameSettings | None = None
    whole: bool = False

    @classmethod
    def of(cls, values: Mapping[str, Any], num_frames: int, image_size: int) -> ClipInput:
        """From a checkpoint's metadata (`CheckpointMetadata.input`); {} is one view of the centre."""
        try:
            views = Views(**values.get("views", {}))
            frames = values.get("frames")
            stored = FrameSettings(**frames) if frames else None
        except TypeError as error:
            raise UserError(
                f"the checkpoint's input is of another version of VidPrompt: {error}"
            ) from error
        whole = str(values.get("tracklet") or "").startswith(ALL_FRAMES)
        return cls(num_frames, image_size, views, stored, whole)

    def to_dict(self) -> dict[str, Any]:
        """All that decides on the pixels of a clip, as JSON has it."""
        return {
            "num_frames": self.num_frames,
            "image_size": self.image_size,
            "views": asdict(self.views),
            "stored": asdict(self.stored) if self.stored else None,
            "whole": self.whole,
        }

    @property
    def prepare(self) -> PrepareFrame:
        """What is done with each frame when it is decoded."""
        if self.stored is None and self.views.antialias:
            short = self.views.short_side(self.image_size)
            return PrepareFrame(short_side=short, interpolation=self.views.interpolation)
        return PrepareFrame(self.stored)

    def clips(self, n_frames: int, name: str = "") -> Numbers:
        """The frames of the clips of a video, (clips, T). Raises UserError where these are too many."""
        if not self.whole:
            return self.views.frames(n_frames, self.num_frames, name)
        clips = self.views.ordered(tracklet_clips(n_frames, self.num_frames), name)
        if len(clips) > MAX_TRACKLET_CLIPS:
            raise UserError(
                f"{name}: it has {n_frames:,} frames, and this model looks at all of them: at most "
                f"{MAX_TRACKLET_CLIPS * self.num_frames:,}; cut it into tracklets"
            )
        return clips

    def decode(self, path: Path | str, max_pixels: int = Limits.max_pixels) -> DecodedVideo:
        """The frames of the clips of a video. Raises DataError."""
        choose = partial(self.clips, name=Path(path).name)
        return decode_video(path, choose, self.prepare, max_pixels)

    def decode_isolated(
        self, paths: Sequence[Path | str], workers: int, limits: Limits | None = None
    ) -> Iterator[TaskResult[DecodedVideo]]:
        """Decode videos in processes of their own, in order: one that hangs, crashes or takes too much
        memory costs that video alone."""
        limits = limits or Limits()
        items = [(self, Path(path), limits.max_pixels) for path in paths]
        ahead = 2 * max(1, workers)
        yield from isolated_map(
            decode_item, items, workers, limits.timeout_s, ahead, memory_mb=limits.memory_mb
        )

    def windows(
        self,
        path: Path | str,
        window: float,
        stride: float,
        isolated: bool = False,
        limits: Limits | None = None,
    ) -> Generator[WindowFrames | VideoEnd, None, None]:
        """The windows of a long video (`windows.decode_windows`); `isolated`: in a process of its own,
        within `limits`. Raises UserError and DataError."""
        limits = limits or Limits()
        check_window(window, stride)
        item = (self, path, window, stride, limits.max_pixels)
        if not isolated:
            yield from _decode_windows(item)
            return
        results = isolated_stream(_decode_windows, item, limits.timeout_s, limits.memory_mb)
        with closing(results):
            yield from results


def decode_item(item: tuple[ClipInput, Path, int]) -> Iterator[DecodedVideo]:
    settings, path, max_pixels = item
    yield settings.decode(path, max_pixels)


def _decode_windows(
    item: tuple[ClipInput, Path | str, float, float, int],
) -> Iterator[WindowFrames | VideoEnd]:
    settings, path, window, stride, max_pixels = item
    choose = partial(settings.clips, name=Path(path).name)
    if is_stream(str(path)):
        yield from live_windows(str(path), choose, settings.prepare, window, stride, max_pixels)
        return
    yield from decode_windows(path, choose, settings.prepare, window, stride, max_pixels)
