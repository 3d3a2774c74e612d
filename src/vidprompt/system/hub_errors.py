"""Errors of the Hugging Face Hub as one sentence: what was refused or not found, and what to do."""

from __future__ import annotations

import os
from typing import NoReturn

from vidprompt.system.errors import TransientError, UserError, causes, first_line
from vidprompt.system.machine_errors import machine_error

LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
_CHANGED = (409, 412)  # the branch is not at the commit that was looked at


def raise_hub_error(error: Exception, repo: str, revision: str = "") -> NoReturn:
    """Raise `hub_error`'s sentence; what a retry does not change is not taken for a broken connection."""
    problem = hub_error(error, repo, revision)
    raise problem from (error if isinstance(problem, TransientError) else None)


def hub_error(error: Exception, repo: str, revision: str = "") -> UserError:
    """The sentence for an error of huggingface_hub, or of the network below it.

    `revision`: a branch, a tag or a commit; empty: the default one.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if (own := machine_error(error)) is not None:
        return own
    named = f"{repo}@{revision}" if revision else repo
    hub = constants.ENDPOINT
    below = list(causes(error))
    # GatedRepoError is a RepositoryNotFoundError too
    if any(isinstance(one, GatedRepoError) for one in below):
        return UserError(f"{repo} is gated: ask for access on {hub}/{repo}, and {LOG_IN}")
    if any(isinstance(one, RepositoryNotFoundError) for one in below):
        return UserError(
            f"{hub} has no model {repo}, or it is private: check the name, and {LOG_IN}"
        )
    if any(isinstance(one, RevisionNotFoundError) for one in below):
        return UserError(f"{repo} has no branch, tag or commit {revision!r}")
    if any(isinstance(one, HFValidationError) for one in below):
        return UserError(f"{named!r} is no name on the Hub: OWNER/NAME, of letters, digits, . _ -")
    if any(isinstance(one, OfflineModeIsEnabled) for one in below) or constants.HF_HUB_OFFLINE:
        return UserError(
            f"{named} is not in the Hub's cache ({constants.HF_HUB_CACHE}), and HF_HUB_OFFLINE is set: unset "
            "it to fetch it"
        )
    answers = [
        one.response
        for one in below
        if isinstance(one, HfHubHTTPError) and one.response is not None
    ]
    status = answers[0].status_code if answers else 0
    if status in (401, 403):
        return UserError(
            f"the Hub refuses {repo} ({status}): this machine's token may not do that. {LOG_IN[0].upper()}"
            f"{LOG_IN[1:]}, with a token that may write to it"
        )
    if status in _CHANGED:
        return TransientError(f"{repo} was changed by somebody else meanwhile: run it again")
    if status:
        kind = TransientError if status == 429 or status >= 500 else UserError
        return kind(f"the Hub answers {status} for {named}: {first_line(error)}")
    return TransientError(
        f"{named} cannot be fetched from {hub} ({first_line(below[-1])}), and the cache "
        f"({constants.HF_HUB_CACHE}) does not have all of it: check the network"
        + (" and HF_ENDPOINT" if os.environ.get("HF_ENDPOINT") else "")
    )
