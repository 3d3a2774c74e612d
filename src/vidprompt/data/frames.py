"""Write a frame cache. Its layout, and `FrameCache` that reads it: `vidprompt.data.frame_cache`."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from vidprompt.atomic import digest, replacing, sha256, write_json
from vidprompt.data.decoding import read_frames
from vidprompt.data.frame_cache import (
    FORMAT_VERSION,
    INDEX,
    PARAMETERS,
    FrameCache,
    FrameSettings,
    segment_centres,
    write_index,
)
from vidprompt.data.guarded import Outcome, Progress, guarded_map
from vidprompt.data.tar_shard import TarWriter, member_key
from vidprompt.errors import DataError, UserError

__all__ = ["FrameCache", "FrameRow", "FrameSettings", "build_frame_cache", "segment_centres"]


class FrameRow(NamedTuple):
    """A video to cache: the manifest's columns, `path` absolute, `n_frames` as probed."""

    video_id: str
    path: Path
    kind: str
    n_frames: int
    exact: bool
    source: str


class Encoded(NamedTuple):
    """A video's encoded frames: their bytes, their numbers in the source, their size in pixels."""

    frames: list[bytes]
    source_frames: list[int]
    height: int
    width: int


class _Job(NamedTuple):
    row: FrameRow
    settings: FrameSettings

    def fingerprint(self) -> str:
        """Names the input and the settings: a shard of equal fingerprints need not be rebuilt.

        A replaced file is noticed by its size; modification times would differ between machines.
        """
        path = Path(self.row.path)
        size = path.stat().st_size if path.is_file() else 0
        row = [self.row.video_id, self.row.kind, self.row.n_frames, self.row.exact, size]
        return digest([FORMAT_VERSION, row, asdict(self.settings)])


def build_frame_cache(
    rows: Iterable[FrameRow | tuple[str, Path, str, int, bool, str]],
    settings: FrameSettings,
    per_source: Mapping[str, Mapping[str, Any]],
    out: Path | str,
    workers: int = 1,
    progress: Progress | None = None,
    timeout_s: float = 600.0,
) -> dict[str, Any]:
    """Decode, resize and encode frames of every video into `out`; finished shards are kept.

    `per_source` overrides settings by source (`{"people": {"stretch": [256, 128]}}`), except
    `shard_mb`. A video that fails, or takes over `timeout_s` seconds, is left out and reported.
    `progress` is called with (done, total) videos. Returns `videos`, `frames` (cached),
    `bytes`, `shards`, `kept` (shards found finished) and `failed` ([{video_id, reason}]). DataError
    for an id that occurs twice, UserError for a setting that does not exist.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    by_source = _by_source(settings, per_source)
    jobs = _jobs(rows, settings, by_source)
    for path in (out / PARAMETERS, out / INDEX, *out.glob(".shard-*.part")):
        path.unlink(missing_ok=True)  # from here to the end this is not a finished cache
    build = _Build(out, settings.shard_mb * 1_000_000, len(jobs), progress)
    done = 0
    while done < len(jobs):
        kept = build.keep(jobs[done:])
        done += kept or build.write(jobs[done:], workers, timeout_s)
    return build.finish(settings, by_source)


def _by_source(
    settings: FrameSettings, per_source: Mapping[str, Mapping[str, Any]]
) -> dict[str, FrameSettings]:
    by_source = {}
    for source, overrides in per_source.items():
        known = set(asdict(settings)) - {"shard_mb"}
        wrong = sorted(set(overrides) - known)
        if wrong:
            raise UserError(
                f"frames of source {source!r}: {wrong[0]!r} cannot be set; choose from"
                f" {', '.join(sorted(known))}"
            )
        by_source[source] = replace(settings, **dict(overrides))
    return by_source


def _jobs(
    rows: Iterable[Any], settings: FrameSettings, by_source: Mapping[str, FrameSettings]
) -> list[_Job]:
    ordered = sorted((FrameRow(*row) for row in rows), key=lambda row: row.video_id)
    for one, next_one in pairwise(ordered):
        if one.video_id == next_one.video_id:
            raise DataError(f"video {one.video_id!r} occurs twice in the list to cache")
    return [_Job(row, by_source.get(row.source, settings)) for row in ordered]


def encode_video(job: tuple[FrameRow, FrameSettings]) -> Iterator[Encoded]:
    """Decode, resize and encode one video's frames (in a worker process)."""
    from PIL import Image

    row, settings = job
    numbers = segment_centres(row.n_frames, settings.frames)
    pixels = read_frames(row.path, numbers.tolist(), kind=row.kind, exact=row.exact)
    height, width = settings.stretch or _shrunk(
        pixels.shape[1], pixels.shape[2], settings.short_side
    )
    options: dict[str, Any] = {"quality": settings.quality}
    if settings.format == "webp":
        options["method"] = 4
    frames = []
    for frame in pixels:
        image = Image.fromarray(frame)
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        image.save(buffer, format=settings.format, **options)
        frames.append(buffer.getvalue())
    yield Encoded(frames, numbers.tolist(), height, width)


def _shrunk(height: int, width: int, short_side: int) -> tuple[int, int]:
    short = min(height, width)
    if short <= short_side:
        return height, width
    return round(height * short_side / short), round(width * short_side / short)


@dataclass
class _Build:
    """A build under way: shards so far, in order, as their sidecar files describe them."""

    out: Path
    shard_bytes: int
    total: int
    progress: Progress | None
    shards: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    kept: int = 0
    done: int = 0

    def _paths(self) -> tuple[Path, Path]:
        name = f"shard-{len(self.shards):05d}"
        return self.out / f"{name}.tar", self.out / f"{name}.json"

    def _advance(self, count: int) -> None:
        self.done += count
        if self.progress is not None:
            self.progress(self.done, self.total)

    def _candidate(self, jobs: list[_Job]) -> dict[str, Any] | None:
        """The sidecar of the next shard if one is there that was made from just these jobs.

        One that left out a failed video is none: the video is to be tried again.
        """
        tar, sidecar = self._paths()
        if not tar.is_file() or not sidecar.is_file():
            return None
        try:
            shard: dict[str, Any] = json.loads(sidecar.read_text("utf-8"))
            inputs = shard["inputs"]
            fits = (
                shard["shard_bytes"] == self.shard_bytes
                and (shard["full"] or len(inputs) == len(jobs))
                and len(shard["rows"]) == len(inputs)
            )
        except (ValueError, KeyError, TypeError):
            return None
        if not fits or inputs != [job.fingerprint() for job in jobs[: len(inputs)]]:
            return None
        return shard

    def keep(self, jobs: list[_Job]) -> int:
        """Take over the next shard if it is there and intact; how many of the jobs it holds."""
        shard = self._candidate(jobs)
        if shard is None or sha256(self._paths()[0]) != shard["sha256"]:
            return 0
        self.shards.append(shard)
        self.kept += 1
        self._advance(len(shard["inputs"]))
        return len(shard["inputs"])

    def write(self, jobs: list[_Job], workers: int, timeout_s: float) -> int:
        """Write shards until the next one looks as if it can be kept; how many jobs went in."""
        with closing(guarded_map(encode_video, jobs, workers, timeout_s)) as results:
            taken = self._write_shard(jobs, results)
            while taken < len(jobs) and self._candidate(jobs[taken:]) is None:
                taken += self._write_shard(jobs[taken:], results)
        return taken

    def _write_shard(self, jobs: list[_Job], results: Iterator[Outcome[Encoded]]) -> int:
        tar, sidecar = self._paths()
        sidecar.unlink(missing_ok=True)  # an old one must not vouch for the new shard
        rows, inputs = [], []
        full = False
        with replacing(tar) as temporary, temporary.open("wb") as file:
            writer = TarWriter(file)
            for job, outcome in zip(jobs, results, strict=False):
                inputs.append(job.fingerprint())
                self._advance(1)
                if outcome.failure is not None or outcome.value is None:
                    self.failed.append({"video_id": job.row.video_id, "reason": outcome.detail})
                    continue
                offset = writer.add(_member_name(job), outcome.value.frames)
                rows.append(_index_row(job, tar.name, offset, outcome.value))
                full = writer.position >= self.shard_bytes
                if full:
                    break
            checksum, size = writer.finish()
        if not rows:  # nothing but failures
            tar.unlink()
            return len(inputs)
        shard = {"name": tar.name, "sha256": checksum, "bytes": size, "rows": rows}
        shard |= {"inputs": inputs, "shard_bytes": self.shard_bytes, "full": full}
        write_json(sidecar, shard)
        self.shards.append(shard)
        return len(inputs)

    def finish(
        self, settings: FrameSettings, by_source: Mapping[str, FrameSettings]
    ) -> dict[str, Any]:
        """Remove what an earlier, longer build left, write the index and then the parameters."""
        current = {shard["name"] for shard in self.shards}
        for path in self.out.glob("shard-*"):
            if path.with_suffix(".tar").name not in current:
                path.unlink()
        rows = [row for shard in self.shards for row in shard["rows"]]
        write_index(rows, self.out / INDEX)
        summary: dict[str, Any] = {
            "videos": len(rows),
            "frames": sum(len(row["lengths"]) for row in rows),
            "bytes": sum(shard["bytes"] for shard in self.shards),
        }
        shards = [
            {key: shard[key] for key in ("name", "sha256", "bytes")}
            | {"videos": len(shard["rows"])}
            for shard in self.shards
        ]
        description = {
            "version": FORMAT_VERSION,
            "settings": asdict(settings),
            "per_source": {source: asdict(own) for source, own in by_source.items()},
            "failed": [failure["video_id"] for failure in self.failed],  # reasons hold paths
            "shards": shards,
        }
        write_json(self.out / PARAMETERS, summary | description)
        return summary | {"shards": len(shards), "kept": self.kept, "failed": self.failed}


def _member_name(job: _Job) -> str:
    suffix = {"jpeg": "mjpeg", "webp": "webps"}[job.settings.format]
    return f"{member_key(job.row.video_id)}.{suffix}"


def _index_row(job: _Job, shard: str, offset: int, encoded: Encoded) -> dict[str, Any]:
    return {
        "video_id": job.row.video_id,
        "shard": shard,
        "offset": offset,
        "lengths": [len(frame) for frame in encoded.frames],
        "source_frames": encoded.source_frames,
        "n_frames": job.row.n_frames,
        "height": encoded.height,
        "width": encoded.width,
    }
