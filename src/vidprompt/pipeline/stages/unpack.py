"""Stage unpack: a dataset kept as tar files → its folder in the official layout, as its readers expect it."""

from __future__ import annotations

import shutil
import tarfile
import zlib
from collections.abc import Iterator
from lzma import LZMAError
from pathlib import Path

from vidprompt.config.schema import Config
from vidprompt.files.atomic import replacing
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
    """Extract one tar file; nothing in it is written outside of `folder`."""
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter=_member)  # noqa: S202, the filter refuses what leaves it
    except BROKEN as error:
        raise DataError(f"{archive} cannot be unpacked: {error}; fetch it again") from error


def _member(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
    """What Python calls safe data, with the time of unpacking: a file that changes must look changed."""
    return tarfile.data_filter(member, folder).replace(mtime=None)  # type: ignore[arg-type]
