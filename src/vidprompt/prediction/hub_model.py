"""Fetch a model from the Hugging Face Hub: hf://OWNER/NAME, or hf://OWNER/NAME@REVISION.

Only the files that `vidprompt push-to-hub` writes are fetched, into the Hub's own cache; none is executed or
unpickled.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from vidprompt.files.hashes import sha256
from vidprompt.models.backbones.local_files import PACKAGED, TOKENIZER_FILES
from vidprompt.system.errors import DataError, UserError
from vidprompt.system.hub_errors import raise_hub_error

PREFIX = "hf://"
WEIGHTS = "model.safetensors"
RECORD = (
    "vidprompt.json"  # what the files are: their SHA-256, and the model's name, version and commit
)
CARD = "README.md"
FILES = (
    RECORD,
    WEIGHTS,
    "backbone.json",
    "backbone.safetensors",
    "backbone/*.safetensors",
    *(f"{PACKAGED}/{name}" for name in TOKENIZER_FILES),
)
_ADDRESS = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^\s@]+))?")


@dataclass(frozen=True)
class HubModel:
    """A model's files in the Hub's cache, of one commit (40 hex digits)."""

    repo: str
    commit: str
    folder: Path

    @property
    def address(self) -> str:
        """The address of this very commit."""
        return f"{PREFIX}{self.repo}@{self.commit}"


def fetch_hub_model(address: str) -> HubModel:
    """The files of a model, fetched where the cache does not have them; from the cache without a network.

    Raises UserError for no such model, branch or tag, a gated one, no network, and damaged files.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise UserError(
            f"{address!r} is no address on the Hub: {PREFIX}OWNER/NAME, or {PREFIX}OWNER/NAME@REVISION"
        )
    repo, revision = match["repo"], match["revision"] or ""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(
            snapshot_download(
                repo,
                revision=revision or None,
                allow_patterns=list(FILES),
                library_name="vidprompt",
            )
        )
    except Exception as error:  # of the library, of httpx or requests, of the disk
        raise_hub_error(error, repo, revision)
    model = HubModel(repo, folder.name, folder)
    if not (folder / WEIGHTS).is_file():
        raise UserError(
            f"{model.address} has no {WEIGHTS}: `vidprompt push-to-hub` did not make it. A CLIP of "
            f"open_clip's is named open_clip:hf-hub:{repo}"
        )
    _check_files(model)
    return model


def read_hashes(content: bytes | str, name: str) -> dict[str, str]:
    """The SHA-256 of each file in a record's content. Raises DataError for other content."""
    try:
        hashes = json.loads(content)["sha256"]
        return {str(file): str(value) for file, value in hashes.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{name} is no record of `vidprompt push-to-hub`") from error


def _check_files(model: HubModel) -> None:
    """Raises UserError for a file that is missing or not the one that was pushed.

    The backbone's weights are not read here: the checkpoint has their checksum, which is compared later.
    """
    if not (model.folder / RECORD).is_file():  # put together by hand
        return
    wanted = read_hashes((model.folder / RECORD).read_bytes(), f"{RECORD} of {model.address}")
    present = {
        path.relative_to(model.folder).as_posix(): path
        for path in model.folder.rglob("*")
        if path.is_file()
    }
    for name in sorted(wanted.keys() - {CARD, RECORD}):
        if name not in present:
            problem = "is missing"
        elif name.startswith("backbone") and name.endswith(".safetensors"):
            continue
        elif sha256(present[name]) != wanted[name]:
            problem = "has other content than was pushed"
        else:
            continue
        raise UserError(
            f"{name} of {model.address} {problem}. Delete {model.folder.parents[1]} to fetch it again; if "
            "that does not help, its owner pushed it incompletely"
        )
