"""Push a model to the Hugging Face Hub: one commit with its files, its record and its card."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import vidprompt
from vidprompt.hub.card import model_card
from vidprompt.hub.metadata import find_licence
from vidprompt.hub.publication import Publication
from vidprompt.prediction.hub_model import CARD, PREFIX, RECORD, read_hashes
from vidprompt.system.errors import DataError, UserError
from vidprompt.system.hub_errors import LOG_IN, raise_hub_error
from vidprompt.system.suggestions import first_names

if TYPE_CHECKING:
    from huggingface_hub import HfApi

logger = logging.getLogger(__name__)

MAIN = "main"
_REPO = re.compile(r"[\w.-]+/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_MADE_BY_HUB = frozenset({".gitattributes"})  # in a repository that was just created


@dataclass(frozen=True)
class Contents:
    """What a repository is to hold; `texts`: the card and the record."""

    name: str
    version: str
    files: Mapping[str, Path]
    texts: Mapping[str, bytes]
    hashes: Mapping[str, str]  # of `files`, and of the card

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        of_files = {place: file.stat().st_size for place, file in self.files.items()}
        return of_files | {place: len(text) for place, text in self.texts.items()}


@dataclass(frozen=True)
class Branch:
    """A branch of a repository as it is on the Hub; `commit` is empty where there is none."""

    commit: str = ""
    files: frozenset[str] = frozenset()
    name: str = ""  # of the model that is there; empty: none of ours
    hashes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pushed:
    """`page` shows the commit, `address` is for `vidprompt.load`."""

    page: str
    address: str


def contents(publication: Publication, repo: str, licence: str = "") -> Contents:
    """All that is pushed, with card and record. Raises UserError for an unknown licence or a wrong name."""
    if not _REPO.fullmatch(repo):
        raise UserError(f"{repo!r} is no name of a repository on the Hub: OWNER/NAME")
    card = model_card(publication, repo, find_licence(publication, licence)).encode()
    hashes = publication.hashes | {CARD: _hash(card)}
    record = {
        "name": publication.name,
        "version": publication.version,
        "commit": publication.origin.commit if publication.origin else "",
        "vidprompt": vidprompt.__version__,
        "sha256": hashes,
    }
    text = (json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()
    texts = {CARD: card, RECORD: text}
    found = Contents(publication.name, publication.version, publication.files, texts, hashes)
    _warn_of_paths(publication, card.decode())
    return found


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _warn_of_paths(publication: Publication, card: str) -> None:
    """Say what the published files tell of this machine: an absolute path of the backbone's, its home."""
    spec = publication.metadata.backbone_spec
    told = [
        str(spec[k]) for k in ("weights", "tokenizer") if Path(str(spec.get(k) or "")).is_absolute()
    ]
    home = str(Path.home())
    if len(home) > 1 and home in card:
        told.append(home)
    if told:
        logger.warning(f"what is published names paths of this machine: {', '.join(told)}")


def push(
    content: Contents,
    repo: str,
    *,
    private: bool = False,
    branch: str = "",
    message: str = "",
    overwrite: bool = False,
) -> Pushed:
    """Make the repository if there is none, and commit the contents to a branch; a version gets a tag.

    All files are in one commit: who loads the branch meanwhile has the old model or the new one. What is on
    the Hub already is not uploaded again, so a push that was interrupted goes on. Raises UserError, with
    nothing written, for another model in the repository or a card that was edited there (unless
    `overwrite`), a version that is there with other files, and a public repository where `private` is
    wanted.
    """
    from huggingface_hub import HfApi, get_token

    branch = branch or MAIN
    if _COMMIT.fullmatch(branch):
        raise UserError(f"{branch} is a commit: --revision names a branch to push to")
    if not get_token():
        raise UserError(f"this machine has no token of the Hub's: {LOG_IN}")
    api = HfApi(library_name="vidprompt")
    try:
        found = _read_branch(api, repo, branch, private)
        if found is not None:
            tagged = _find_tag(api, repo, content)
            if tagged:
                logger.info(f"{repo} has {content.version} already, with these files")
                return _pushed(api, repo, tagged)
            if not overwrite:
                _check_replaced(api, content, repo, found)
        else:
            api.create_repo(repo, private=True if private else None, exist_ok=True)
            found = Branch()
        if branch != MAIN and not found.commit:
            api.create_branch(repo, branch=branch, exist_ok=True)
        commit = _commit(api, content, repo, branch, found, message)
        if content.version:
            api.create_tag(repo, tag=content.version, revision=commit)
    except UserError:
        raise
    except Exception as error:  # of the library, of httpx or requests, of the disk
        raise_hub_error(error, repo, "" if branch == MAIN else branch)
    return _pushed(api, repo, commit)


def _pushed(api: HfApi, repo: str, commit: str) -> Pushed:
    return Pushed(f"{api.endpoint}/{repo}/tree/{commit}", f"{PREFIX}{repo}@{commit}")


def _read_branch(api: HfApi, repo: str, branch: str, private: bool) -> Branch | None:
    """What is on the branch; None where there is no such repository."""
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        whole = api.model_info(repo)
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        return None
    if private and not whole.private:
        raise UserError(
            f"{repo} is public, and --private is asked for: make it private on its page, or name another"
        )
    try:
        info = whole if branch == MAIN else api.model_info(repo, revision=branch)
    except RevisionNotFoundError:
        return Branch()
    commit = str(info.sha or "")
    files = frozenset(one.rfilename for one in info.siblings or ())
    if RECORD not in files:
        return Branch(commit, files)
    text = _read_file(api, repo, RECORD, commit)
    try:
        return Branch(commit, files, str(json.loads(text)["name"]), read_hashes(text, RECORD))
    except (DataError, ValueError, KeyError, TypeError):
        return Branch(commit, files)


def _read_file(api: HfApi, repo: str, name: str, commit: str) -> bytes:
    return Path(api.hf_hub_download(repo, name, revision=commit)).read_bytes()


def _find_tag(api: HfApi, repo: str, content: Contents) -> str:
    """The commit that has the version's tag and these very files; empty where nothing has the tag.

    Raises UserError where the tag is of other files.
    """
    tags = api.list_repo_refs(repo).tags if content.version else []
    commit = next((one.target_commit for one in tags if one.name == content.version), "")
    if not commit:
        return ""
    there = read_hashes(_read_file(api, repo, RECORD, commit), f"{RECORD} of {repo}")
    if _without_card(there) == _without_card(content.hashes):
        return commit
    raise UserError(
        f"{repo} has {content.version} already, with other files, and people load it by that name: register "
        "another version (`vidprompt register`), or name another repository"
    )


def _without_card(hashes: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in hashes.items() if name != CARD}


def _check_replaced(api: HfApi, content: Contents, repo: str, found: Branch) -> None:
    """Raises UserError where the push would replace what it did not make."""
    if found.files <= _MADE_BY_HUB:
        return
    problem = ""
    if not found.name:
        others = first_names(sorted(found.files - _MADE_BY_HUB), 3)
        problem = f"has files that `vidprompt push-to-hub` did not make ({others})"
    elif found.name != content.name:
        problem = f"has the model {found.name}"
    elif CARD in found.files and _hash(_read_file(api, repo, CARD, found.commit)) != (
        found.hashes.get(CARD)
    ):
        problem = f"has a {CARD} that was edited there"
    if problem:
        raise UserError(f"{repo} {problem}: --yes replaces it, or name another repository")


def _commit(
    api: HfApi, content: Contents, repo: str, branch: str, found: Branch, message: str
) -> str:
    """One commit: the contents, without what an earlier push had besides; its name."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    added: dict[str, Any] = {**{k: str(v) for k, v in content.files.items()}, **content.texts}
    operations: list[Any] = [
        CommitOperationAdd(path_in_repo=place, path_or_fileobj=added[place])
        for place in sorted(added)
    ]
    gone = (found.hashes.keys() & found.files) - added.keys()
    operations += [CommitOperationDelete(path_in_repo=place) for place in sorted(gone)]
    done = api.create_commit(
        repo,
        operations,
        commit_message=message or f"{content.name} {content.version}".strip(),
        revision=branch,
        parent_commit=found.commit or None,
    )
    return str(done.oid)
