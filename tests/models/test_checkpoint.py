"""Our own checkpoints: what was trained, and on what."""

import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tests.models.small import small_backbone

from vidprompt.models import create_model
from vidprompt.models.checkpoint import load_checkpoint, save_checkpoint
from vidprompt.models.checkpoint_metadata import CheckpointMetadata, read_metadata
from vidprompt.provenance.code import code_version
from vidprompt.system.errors import UserError

NAMES = ["Yoga", "Archery"]


def save(path: Path, method: str = "vita_clip") -> torch.Tensor:
    model = create_model(method, small_backbone(), num_frames=2, class_names=NAMES)
    metadata = CheckpointMetadata(
        method=method,
        num_frames=2,
        backbone=model.backbone.tag,
        backbone_checksum=model.backbone.identity(),
        class_names=NAMES,
        options=model.options,
        config_hash="abc",
        version=code_version(),
    )
    save_checkpoint(path, model, metadata, torch.float32)
    return model.eval().encode_video(torch.ones(1, 2, 3, 32, 32))[1]


@pytest.mark.parametrize("method", ["ez_clip", "vita_clip"])
def test_a_checkpoint_holds_what_was_trained_and_gives_the_model_back(
    method: str, tmp_path: Path
) -> None:
    expected = save(tmp_path / "a.safetensors", method)
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert not any(name.startswith("clip.") for name in file.keys())  # noqa: SIM118
    model, metadata = load_checkpoint(tmp_path / "a.safetensors", small_backbone())
    assert torch.equal(model.eval().encode_video(torch.ones(1, 2, 3, 32, 32))[1], expected)
    assert (metadata.method, metadata.class_names, metadata.config_hash) == (method, NAMES, "abc")
    assert re.fullmatch("[0-9a-f]{12}", metadata.version)
    save(tmp_path / "b.safetensors", method)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_another_backbone_is_an_error_that_says_so(tmp_path: Path) -> None:
    save(tmp_path / "a.safetensors")
    other = small_backbone()
    with torch.no_grad():
        other.clip.visual.proj.add_(0.01)
    with pytest.raises(
        UserError, match=r"was trained on backbone small \(sha256 .*, and this is small"
    ):
        load_checkpoint(tmp_path / "a.safetensors", other)


def test_a_file_that_is_no_checkpoint_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="is not a safetensors checkpoint"):
        read_metadata(tmp_path / "a.safetensors")
