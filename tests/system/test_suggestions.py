"""The sentence for an unknown name."""

from __future__ import annotations

import pytest

from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import check_choice, suggestion


def test_the_nearest_name_and_all_of_them() -> None:
    names = ["ez_clip", "vita_clip"]
    assert suggestion("ezclip", names) == "did you mean ez_clip? valid: ez_clip, vita_clip"
    assert suggestion("resnet", names) == "valid: ez_clip, vita_clip"
    assert suggestion("x", []) == "valid: none"


def test_an_option_takes_only_its_choices() -> None:
    check_choice("method", "ez_clip", iter(["ez_clip"]))
    with pytest.raises(UserError, match=r"^method=ezclip: did you mean ez_clip\? valid: ez_clip$"):
        check_choice("method", "ezclip", ["ez_clip"])
