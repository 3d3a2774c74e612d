"""Build one shard of a frame cache: decode, resize and encode its videos into a tar and a sidecar.

The sidecar (JSON) is written after the tar and holds its checksum: a shard is finished when both exist
and agree.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from vidprompt.data.decode.reader import read_frames
from vidprompt.data.decode.upright import Frames
from vidprompt.data.shards.plan import FrameSettings, Job, ShardPlan
from vidprompt.data.workers.isolated import TaskResult, isolated_map
from vidprompt.files.atomic import replacing, write_json
from vidprompt.files.hashes import sha256
from vidprompt.system.errors import DataError

Advance = Callable[[int], None]  # called with the number of videos done


class Encoded(NamedTuple):
    """A video's encoded frames: their bytes, their numbers in the source, their size in pixels."""

    frames: list[bytes]
    source_frames: list[int]
    height: int
    width: int


def build_shard(
    plan: ShardPlan,
    out: Path,
    workers: int = 1,
    timeout_s: float = 600.0,
    memory_mb: int | None = None,
) -> dict[str, Any]:
    """Build a shard in the folder `out` unless it is finished there; returns `kept`, `bytes`, `failed`.

    It needs only the videos and the folder, so any process on any machine may run it. A video
    that fails, or takes over `timeout_s` seconds or `memory_mb` megabytes, is left out and noted in the
    sidecar.
    """
    shard = finished_shard(plan, out)
    kept = shard is not None
    if shard is None:
        results = isolated_map(encode_video, plan.jobs, workers, timeout_s, memory_mb=memory_mb)
        with closing(results):
            shard = write_shard(plan, out, results)
    return {"kept": kept, "bytes": shard["bytes"], "failed": shard["failed"]}


def read_sidecar(plan: ShardPlan, out: Path) -> dict[str, Any] | None:
    """A shard's sidecar, if it was made of exactly these videos with these settings."""
    try:
        shard: dict[str, Any] = json.loads((out / plan.sidecar).read_text("utf-8"))
        same = shard["inputs"] == [job.fingerprint() for job in plan.jobs]
        complete = {"name", "sha256", "bytes", "rows", "failed"} <= set(shard)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return shard if same and complete else None


def require_sidecar(plan: ShardPlan, out: Path) -> dict[str, Any]:
    """The sidecar of a shard that has been built. Raises DataError when it has not."""
    shard = read_sidecar(plan, out)
    if shard is None:
        raise DataError(f"{out / plan.sidecar} is missing or of other videos: run the frames stage")
    return shard


def finished_shard(plan: ShardPlan, out: Path) -> dict[str, Any] | None:
    """The sidecar of a shard that need not be built: intact, and without a failed video to try again."""
    shard = read_sidecar(plan, out)
    if shard is None or shard["failed"] or not (out / plan.tar).is_file():
        return None
    return shard if sha256(out / plan.tar) == shard["sha256"] else None


def write_shard(
    plan: ShardPlan,
    out: Path,
    results: Iterator[TaskResult[Encoded]],
    advance: Advance | None = None,
) -> dict[str, Any]:
    """Write tar and sidecar from the results of the plan's videos, in their order; returns the sidecar.

    Raises DiskFullError when the disk is full; no half-written file is left.
    """
    path, sidecar = out / plan.tar, out / plan.sidecar
    sidecar.unlink(missing_ok=True)  # an old one must not vouch for the new shard
    rows: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    with replacing(path) as temporary:
        with tarfile.open(temporary, "w", format=tarfile.GNU_FORMAT, encoding="utf-8") as tar:
            for job in plan.jobs:
                result = next(results)
                if result.failure is not None or result.value is None:
                    reason = result.detail.replace(str(job.row.path), Path(job.row.path).name)
                    failed.append({"video_id": job.row.video_id, "reason": reason})
                else:
                    offset = _add_member(tar, _member_name(job), result.value.frames)
                    rows.append(_index_row(job, plan.tar, offset, result.value))
                if advance is not None:
                    advance(1)
        checksum, size = sha256(temporary), temporary.stat().st_size
    shard = {"name": plan.tar, "sha256": checksum, "bytes": size, "rows": rows}
    shard |= {"inputs": [job.fingerprint() for job in plan.jobs], "failed": failed}
    try:
        write_json(sidecar, shard)
    except BaseException:
        path.unlink(missing_ok=True)  # without a sidecar it is nothing
        raise
    return shard


def _add_member(tar: tarfile.TarFile, name: str, frames: list[bytes]) -> int:
    """Append the frames as one member with a header of constants; the offset of its data in bytes."""
    info = tarfile.TarInfo(name)  # mtime 0, uid and gid 0, no user names, mode 0644
    data = b"".join(frames)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
    blocks = -(-len(data) // tarfile.BLOCKSIZE)
    return tar.offset - blocks * tarfile.BLOCKSIZE


def encode_video(job: Job) -> Iterator[Encoded]:
    """Decode, resize and encode one video's frames (in a worker process)."""
    row, settings = job
    numbers = settings.frame_numbers(row.n_frames)
    pixels = read_frames(row.path, numbers, kind=row.kind, exact=row.exact)
    height, width = settings.stored_size(pixels.shape[1], pixels.shape[2])
    yield Encoded(encode_frames(pixels, settings), numbers, height, width)


def encode_frames(pixels: Frames, settings: FrameSettings) -> list[bytes]:
    """Frames uint8 (n, H, W, 3) as they are stored: resized and encoded, each by itself."""
    from PIL import Image

    height, width = settings.stored_size(pixels.shape[1], pixels.shape[2])
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
    return frames


def member_key(video_id: str) -> str:
    """A video's key in the tar: `/`, `.`, `%` and control characters as %XX, so keys stay distinct."""
    return re.sub(r"[%/.\\\x00-\x1f\x7f]", lambda match: f"%{ord(match[0]):02X}", video_id)


def _member_name(job: Job) -> str:
    suffix = {"jpeg": "mjpeg", "webp": "webps"}[job.settings.format]
    return f"{member_key(job.row.video_id)}.{suffix}"


def _index_row(job: Job, tar: str, offset: int, encoded: Encoded) -> dict[str, Any]:
    return {
        "video_id": job.row.video_id,
        "shard": tar,
        "offset": offset,
        "lengths": [len(frame) for frame in encoded.frames],
        "crc32": [zlib.crc32(frame) for frame in encoded.frames],
        "source_frames": encoded.source_frames,
        "n_frames": job.row.n_frames,
        "height": encoded.height,
        "width": encoded.width,
    }
