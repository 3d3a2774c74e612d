"""Probe a folder of images, one a frame: tracklets of re-identification, extracted frames."""

from __future__ import annotations

import hashlib
import io
import stat
import warnings
from dataclasses import replace
from pathlib import Path

from vidprompt.data.decode.reader import image_names
from vidprompt.data.decode.upright import check_colours, image_orientation, upright_image
from vidprompt.data.manifest.health import Health
from vidprompt.data.probe.file_state import check_openable, missing_or_unreadable
from vidprompt.data.probe.picture_fingerprint import (
    Thumbnail,
    fingerprint,
    frame_numbers,
    thumbnail,
)
from vidprompt.data.probe.result import ProbeResult
from vidprompt.files.natural_order import numbering_faults


def probe_folder(path: Path, max_pixels: int) -> ProbeResult:
    """Decode every image once, in the order of their numbers. Never raises for a bad folder.

    The first image gives `width`, `height` and `codec`; there is no time base, so `fps` and
    `duration` are 0, and no container. `size` is the sum in bytes. `hash` is the SHA-256 of what
    the program sha256sum prints for the images in this order, so of their bytes and names.
    """
    failure = check_openable(path, "frames")
    if failure is not None:
        return failure
    try:
        names = image_names(path)
    except OSError as error:
        return missing_or_unreadable(path, "folder", error)
    if not names:
        return ProbeResult(Health.EMPTY, "The folder has no images.")
    result = ProbeResult(Health.OK, n_frames=len(names), exact=True)
    listing = hashlib.sha256()
    thumbnails: dict[int, Thumbnail] = {}
    compared = set(frame_numbers(len(names)))
    for number, name in enumerate(names):
        try:
            if not stat.S_ISREG((path / name).stat().st_mode):
                return ProbeResult(Health.NOT_A_REGULAR_FILE, f"{name} is not a regular file.")
            data = (path / name).read_bytes()
        except OSError as error:
            return missing_or_unreadable(path / name, "file", error)
        listing.update(f"{hashlib.sha256(data).hexdigest()}  {name}\n".encode(errors="replace"))
        result = replace(result, size=result.size + len(data))
        if result.health is Health.OK:  # images after a bad one are only hashed
            seen = thumbnails if number in compared else None
            result = _with_image(result, number, name, data, max_pixels, seen)
    if result.health is Health.OK:
        result = replace(
            result,
            detail=numbering_faults(names),
            fingerprint=fingerprint(thumbnails, len(names)),
        )
    return replace(result, hash=listing.hexdigest())


def _with_image(
    result: ProbeResult,
    number: int,
    name: str,
    data: bytes,
    max_pixels: int,
    thumbnails: dict[int, Thumbnail] | None,
) -> ProbeResult:
    """The result after one more image is decoded; its thumbnail is added to `thumbnails`, if given."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            if width * height > max_pixels:
                return result.too_large(width, height, max_pixels)
            result = replace(result, codec=result.codec or (image.format or "").lower())
            check_colours(image)
            image.draft("RGB", (1, 1))  # all of a JPEG is read, but little is computed
            image.load()
            if thumbnails is not None:
                thumbnails[number] = thumbnail(upright_image(image))
            if number == 0:
                upright = image_orientation(image)
                width, height = (height, width) if upright.sideways else (width, height)
                result = replace(result, width=width, height=height, rotation=upright.rotation)
        return result
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit, 179 million pixels
        detail = f"Frame {number} ({name}): {error}"
        return ProbeResult(Health.TOO_LARGE, detail, codec=result.codec)
    except UnidentifiedImageError:  # its message has an address in memory
        reason = "no image in any known format" if data else "0 bytes"
    except Exception as error:  # Pillow's parsers raise exceptions of many types
        reason = str(error)[:120].rstrip(".")
    detail = f"Undecodable at frame {number} ({name}): {reason}."
    return ProbeResult(Health.UNDECODABLE, detail, codec=result.codec, size=result.size)
