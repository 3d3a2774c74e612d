"""Pack a dataset's folders of videos and frames into tar files, which the stage unpack reads."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
from pathlib import Path

from vidprompt.files.atomic import replacing

MOST_FILES = 20  # a folder with more is packed, if it holds videos or pictures
MEDIA = frozenset({".mp4", ".avi", ".webm", ".jpg"})


def pack(source: Path, target: Path) -> None:
    """Copy `source` to `target`, each folder of many media files as one `<folder>.tar.gz`.

    A packed folder is the outermost one that holds media and no lists. Equal files give equal bytes.
    """
    for path in sorted(source.iterdir()):
        place = target / path.name
        if path.is_file():
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
        elif _is_packed(path):
            write_tar(path, target / f"{path.name}.tar.gz")
        else:
            pack(path, place)


def _is_packed(folder: Path) -> bool:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return len(files) > MOST_FILES and all(path.suffix in MEDIA for path in files)


def write_tar(folder: Path, archive: Path) -> None:
    """All files of a folder, below its name, without times, owners or modes of this machine."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with (
        replacing(archive) as temporary,
        temporary.open("wb") as raw,
        gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            member = tarfile.TarInfo(path.relative_to(folder.parent).as_posix())
            content = path.read_bytes()
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
