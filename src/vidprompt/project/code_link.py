"""A project's `src/vidprompt`: a link to the installed package, so that DVC sees what code its stages run.

dvc.yaml names the code of each stage as dependencies below `src/vidprompt`, in every project as in the
package's own repository. In a project they lead through this link into the installed package: after an
upgrade `dvc status` names the stages whose code changed. git does not keep the link; every `vidprompt`
command renews it, so this module imports nothing that takes time before there is something to do.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import vidprompt
from vidprompt.provenance.project_record import RECORD
from vidprompt.system.errors import UserError

PLUGINS = "plugins"  # LINKS of config/plugins.py


def renew_links(root: Path) -> bool:
    """Make the links to the package (`renew_code_link`, whose value it returns) and to plug-ins.

    Raises UserError as that does, OSError where a file cannot be read.
    """
    changed = renew_code_link(root)
    stages = root / "params/stages.yaml"
    named = stages.is_file() and f"{PLUGINS}/".encode() in stages.read_bytes()
    if named or (root / PLUGINS).is_dir():
        from vidprompt.provenance.plugin_links import renew_plugin_links

        renew_plugin_links(root)
    return changed


def renew_code_link(root: Path) -> bool:
    """Make the link of the project in `root` lead to the running package; True if it did not before.

    A folder that is no project of `vidprompt init`, and one with sources of its own, are left alone. Raises
    UserError where the file system has no symbolic links, or something else has the link's name.
    """
    if not (root / RECORD).is_file():
        return False
    link, package = root / "src/vidprompt", Path(vidprompt.__file__).resolve().parent
    if link.is_symlink() and Path(os.path.realpath(link)) == package:
        return False
    if link.is_dir() and not link.is_symlink():
        return False
    from vidprompt.files.atomic import write_text

    if link.exists() and not link.is_symlink():
        raise UserError(f"{link} is no folder: remove it, it is to be a link to {package}")
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    try:
        link.parent.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):
            temporary.unlink()
        temporary.symlink_to(package, target_is_directory=True)
        temporary.replace(link)
        ignore = link.parent / ".gitignore"
        if not ignore.exists():
            write_text(ignore, "# vidprompt is a link to the installed package\n*\n")
    except OSError as error:
        raise UserError(
            f"{link}: {error.strerror}: dvc.yaml's stages need it as a symbolic link to {package}"
        ) from error
    return True
