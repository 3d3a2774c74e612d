"""Stage unpack: a dataset kept as tar files → its folder in the official layout, as its readers expect it."""

from __future__ import annotations

import shutil
import tarfile
import zlib
from collections.abc import Iterator
from lzma import LZMAError
from pathlib import Path, PurePosixPath

from vidprompt.config.schema import Config
from vidprompt.files.atomic import naming_full_disk, replacing
from vidprompt.files.hashes import digest
from vidprompt.system.errors import DataError, UserError
from vidprompt.system.progress import Progress

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
BROKEN = (tarfile.TarError, EOFError, zlib.error, LZMAError)


def run(config: Config) -> None:
    """Write `dataset.root` from `dataset.archives`: tar files unpacked where they lie, all else copied.

    Only folders of the dataset's sources are read. A run that was interrupted resumes with the next
    file; the root appears when it is complete. Raises UserError where the dataset has no archives,
    DataError for a missing folder and for an archive that is damaged or leaves its folder.
    """
    name, root = config.dataset.name, Path(config.dataset.root)
    if not config.dataset.archives:
        raise UserError(f"{name} is read as it lies in {root}: it sets no dataset.archives")
    source = Path(config.dataset.archives)
    if not source.is_dir():
        raise DataError(f"{source} is missing: `dvc pull data.dvc` fetches the demo's")
    if source.resolve().is_relative_to(root.resolve()):
        raise UserError(
            f"{name}: dataset.root={root} holds the archives in {source}, and unpacking replaces it: "
            "choose another root"
        )
    folders = {options.folder for options in config.dataset.sources.values()}
    files = sorted({file for folder in folders for file in _files(source / folder)})
    if not files:
        raise DataError(f"{source} holds no files in {', '.join(sorted(folders))}")
    partial = root.with_name(f"{root.name}.part")
    done = partial / ".done"
    done.mkdir(parents=True, exist_ok=True)
    with Progress(f"unpack {name}", len(files), unit="files") as progress:
        for count, file in enumerate(files, 1):
            stat = file.stat()
            mark = done / digest([file.as_posix(), stat.st_size, stat.st_mtime_ns])
            if not mark.exists():
                place = partial / file.relative_to(source)
                place.parent.mkdir(parents=True, exist_ok=True)
                if file.name.endswith(SUFFIXES):
                    _unpack(file, place.parent)
                else:
                    with replacing(place) as temporary:
                        shutil.copyfile(file, temporary)
                mark.touch()
            progress.reach(count, len(files))
    shutil.rmtree(done)
    shutil.rmtree(root, ignore_errors=True)
    partial.rename(root)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _unpack(archive: Path, folder: Path) -> None:
    """Extract the files of one tar file; nothing in it is written outside of `folder`."""
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if not member.isdir():
                    _extract(tar, member, folder)
    except BROKEN as error:
        raise DataError(f"{archive} cannot be unpacked: {error}; fetch it again") from error


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Write one file below `folder`, with the time of unpacking: a file that changes must look changed.

    `TarFile.extractall(filter="data")`, which Python has since 3.11.4, would set the time in the archive.
    Raises TarError for a name that leaves the folder, and for links and devices.
    """
    name = PurePosixPath(member.name)
    content = tar.extractfile(member) if member.isfile() else None
    if content is None or name.is_absolute() or ".." in name.parts:
        raise tarfile.TarError(f"{member.name} is no file below its folder")
    place = folder / name
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        with naming_full_disk(place), content, place.open("wb") as file:
            shutil.copyfileobj(content, file)
    except BaseException:
        place.unlink(missing_ok=True)
        raise
