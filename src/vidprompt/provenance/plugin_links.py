"""A project's `plugins/`: links to the packages of the plug-ins that its stages use, for DVC.

A plug-in lies outside of the project, and DVC compares files inside. So `vidprompt activate` writes
`plugins/<package>` into params/stages.yaml as a dependency of the stages that run its code, and every
`vidprompt` command makes it a link to the package as it is installed: `dvc status` sees an edit of the
package, and another version. git does not keep the links; dvc.lock records the hash of what they lead to.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path, PurePosixPath

from vidprompt.config.params_files import PARAMS
from vidprompt.config.plugins import LINKS, Plugin, package_params, plugins
from vidprompt.files.atomic import write_text
from vidprompt.system.errors import UserError

# Files that are always there and never change: dvc.yaml needs a dependency of its own in each place
NO_PLUGIN = tuple(
    f"src/vidprompt/{name}/__init__.py" for name in ("pipeline/stages", "pipeline", "data")
)
_IGNORE = "# links to installed packages\n*\n"
_LINKED = re.compile(rf"(?<![\w/]){LINKS}/([\w.-]+)")


def plugin_code(key: str, places: int, used: Iterable[Plugin], what: str) -> dict[str, str]:
    """`key`, `key_2`, … → the dependencies that stand for the code of plug-ins: the packages that it is in,
    in the other places files that never change.

    Raises UserError for plug-ins of more packages than dvc.yaml has places for.
    """
    by_package = {one.package: one for one in used}
    if len(by_package) > places:
        origins = " and ".join(one.origin for one in by_package.values())
        raise UserError(
            f"{what} uses plug-ins of {origins}: dvc.yaml has places for {places} packages; put some into "
            "one, or run the stages without DVC"
        )
    paths = [f"{LINKS}/{_link_name(one)}" for one in by_package.values()]
    keys = [key, *(f"{key}_{number}" for number in range(2, places + 1))]
    return dict(zip(keys, [*paths, *NO_PLUGIN][:places], strict=True))


def path_in_project(file: Path, root: Path) -> str:
    """A file of params/ relative to the project; of a plug-in's package through its link."""
    if file.is_relative_to(root):
        return file.relative_to(root).as_posix()
    for one in package_params():
        if file.is_relative_to(one.folder):
            inside = PurePosixPath(*file.relative_to(one.folder).parts)
            return f"{LINKS}/{one.package}/{one.folder.name}/{inside}"
    raise UserError(f"{file} is not in {root}, nor in the package of a plug-in")


def find_linked(path: str) -> Plugin | None:
    """A plug-in of the package that a path `plugins/<package>` stands for; None: it is not installed."""
    name = PurePosixPath(path).parts[1]
    return next((one for one in plugins() if one.path and _link_name(one) == name), None)


def renew_plugin_links(root: Path) -> None:
    """Make the links that params/stages.yaml names lead to the installed packages; remove all others of ours.

    Raises UserError where the file system has no symbolic links.
    """
    try:
        named = set(_LINKED.findall((root / PARAMS / "stages.yaml").read_text("utf-8")))
    except (OSError, UnicodeDecodeError):
        named = set()
    folder = root / LINKS
    if not named and not folder.is_dir():
        return
    targets = {name: one.path for name in named if (one := find_linked(f"{LINKS}/{name}"))}
    for link in folder.iterdir() if _is_ours(folder) else ():
        if link.is_symlink() and link.name not in targets:
            link.unlink()
    for name, target in targets.items():
        if target is not None and not _leads_to(folder / name, target):
            _link(folder / name, target)


def _is_ours(folder: Path) -> bool:
    """Whether the folder is one that this module made, and not one of the user's of that name."""
    try:
        return (folder / ".gitignore").read_text("utf-8") == _IGNORE
    except (OSError, UnicodeDecodeError):
        return False


def _link_name(plugin: Plugin) -> str:
    """The package's name; of a single module its file's."""
    path = plugin.path
    return path.name if path is not None else plugin.package


def _leads_to(link: Path, target: Path) -> bool:
    return link.is_symlink() and os.path.realpath(link) == os.path.realpath(target)


def _link(link: Path, target: Path) -> None:
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    try:
        link.parent.mkdir(exist_ok=True)
        ignore = link.parent / ".gitignore"
        if not ignore.exists():
            write_text(ignore, _IGNORE)
        with suppress(FileNotFoundError):
            temporary.unlink()
        temporary.symlink_to(os.path.realpath(target), target_is_directory=target.is_dir())
        temporary.replace(link)
    except OSError as error:
        raise UserError(
            f"{link}: {error.strerror}: dvc.yaml's stages need it as a symbolic link to {target}"
        ) from error
