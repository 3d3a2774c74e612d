"""Decode many videos in order, ahead of the model or in processes of their own; without torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vidprompt.data.probe.result import Limits
from vidprompt.prediction.clip_input import ClipInput
from vidprompt.prediction.decoding import DecodedVideo
from vidprompt.prediction.results import Failure
from vidprompt.system.errors import UserError

Video = str | Path


def decode_videos(
    settings: ClipInput, videos: Sequence[Video], workers: int = 0, limits: Limits | None = None
) -> Iterator[tuple[Video, DecodedVideo | Failure]]:
    """Each video with its decoded frames or the failure, in order."""
    if workers:
        results = settings.decode_isolated(videos, workers, limits)
        for video, result in zip(videos, results, strict=True):
            if result.failure is None and result.value is not None:
                yield video, result.value
            else:
                yield video, Failure(str(video), result.detail)
        return
    maximum = (limits or Limits()).max_pixels
    if len(videos) == 1:
        yield videos[0], _try_decode(settings, videos[0], maximum)
        return
    # the next video is decoded while one is encoded
    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(_try_decode, settings, video, maximum) for video in videos[:1]]
        for number, video in enumerate(videos):
            if number + 1 < len(videos):
                waiting.append(pool.submit(_try_decode, settings, videos[number + 1], maximum))
            yield video, waiting.pop(0).result()


def _try_decode(settings: ClipInput, video: Video, max_pixels: int) -> DecodedVideo | Failure:
    try:
        return settings.decode(video, max_pixels)
    except UserError as error:
        return Failure(str(video), str(error))
