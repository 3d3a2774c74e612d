"""Probe a folder of images, one a frame: the tracklets of re-identification, extracted frames."""

from __future__ import annotations

import hashlib
import io
import stat
import warnings
from dataclasses import replace
from pathlib import Path

from vidprompt.data.decode.reader import image_names
from vidprompt.data.probe.health import Health, Probe
from vidprompt.data.probe.on_disk import not_there, obstacle


def probe_folder(path: Path, max_pixels: int) -> Probe:
    """Decode every image once, in the order of their names. Never raises for a bad folder.

    The first image gives `width`, `height` and `codec`; there is no time base, so `fps` and
    `duration` are 0, and no container. `size` is the sum in bytes. `hash` is the SHA-256 of what
    the program sha256sum prints for the images in this order, so of their bytes and names.
    """
    hindered = obstacle(path, "frames")
    if hindered is not None:
        return hindered
    try:
        names = image_names(path)
    except OSError as error:
        return not_there(path, "folder", error)
    if not names:
        return Probe(Health.EMPTY, "The folder has no images.")
    probe = Probe(Health.OK, n_frames=len(names), exact=True)
    listing = hashlib.sha256()
    for number, name in enumerate(names):
        where = f"frame {number} ({name})"
        try:
            if not stat.S_ISREG((path / name).stat().st_mode):
                return Probe(Health.NOT_A_REGULAR_FILE, f"{name} is not a regular file.")
            data = (path / name).read_bytes()
        except OSError as error:
            return not_there(path / name, "file", error)
        listing.update(f"{hashlib.sha256(data).hexdigest()}  {name}\n".encode(errors="replace"))
        probe = replace(probe, size=probe.size + len(data))
        if probe.health is Health.OK:  # later images are only hashed
            probe = _with_image(probe, number, where, data, max_pixels)
    return replace(probe, hash=listing.hexdigest())


def _with_image(probe: Probe, number: int, where: str, data: bytes, max_pixels: int) -> Probe:
    """The probe after one more image was decoded."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            if width * height > max_pixels:
                return probe.too_large(width, height, max_pixels)
            if number == 0:
                codec = (image.format or "").lower()
                probe = replace(probe, codec=codec, width=width, height=height)
            image.draft("RGB", (1, 1))  # all of a JPEG is read, but little is computed
            image.load()
        return probe
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit, 179 million pixels
        return Probe(Health.TOO_LARGE, f"{where[0].upper()}{where[1:]}: {error}", codec=probe.codec)
    except UnidentifiedImageError:  # its message has an address in memory
        why = "no image in any known format" if data else "0 bytes"
    except Exception as error:  # Pillow's parsers raise whatever they run into
        why = str(error)[:120].rstrip(".")
    detail = f"Undecodable at {where}: {why}."
    return Probe(Health.UNDECODABLE, detail, codec=probe.codec, size=probe.size)
