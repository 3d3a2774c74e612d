"""open_clip's registry as a table: which models are taken, or why not.

Written again by `python -m tests.models.registry_table` after another version of open_clip is taken up.
"""

import open_clip
from open_clip.factory import get_model_config

from vidprompt.models.backbones.loading import unsupported_reason
from vidprompt.reproduce.backbones.catalogue import REGISTRY


def reason(name: str) -> str:
    """Why a registered model is refused; "" if it is taken."""
    config = get_model_config(name)
    assert config is not None
    return unsupported_reason(config)


if __name__ == "__main__":
    lines = [f"{name}\t{reason(name)}\n" for name in sorted(open_clip.list_models())]
    REGISTRY.write_text("".join(["name\trefused because\n", *lines]), encoding="utf-8")
