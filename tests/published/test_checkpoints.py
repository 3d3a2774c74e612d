"""Import and export of published checkpoints."""

import fractions
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from tests.models.small import small_backbone

from vidprompt.models import create_model
from vidprompt.models.backbones.loading import Backbone, from_clip, load_backbone
from vidprompt.models.checkpoint import load_checkpoint
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.published import export_published, import_published
from vidprompt.published.conversion import export_file, import_to_folder
from vidprompt.published.files import read_published
from vidprompt.system.errors import UserError

NAMES = ["riding a bike", "shaking hands (not a dog)", "yoga"]
OPTIONS: dict[str, dict[str, Any]] = {
    "ez_clip": {"adapter_ratio": 0.5},
    "vita_clip": {
        "class_names": NAMES,
        "global_prompts": 3,
        "context_length": 5,
        "clean_names": False,
    },
}


def backbone(seed: int = 0) -> Backbone:
    torch.manual_seed(seed)
    vision = {"image_size": 32, "layers": 2, "width": 128, "patch_size": 16}
    text = {"context_length": 30, "width": 64, "heads": 1, "layers": 2}
    return from_clip(open_clip.CLIP(48, vision, text, quick_gelu=True), "small", "")


def trained(method: str, base: Backbone | None = None, **options: Any) -> VideoCLIP:
    model = create_model(method, base or backbone(), num_frames=3, **(OPTIONS[method] | options))
    with torch.no_grad():
        for value in model.trained_state().values():
            value.add_(0.1 * torch.randn_like(value))
    return model.eval()


def outputs(model: VideoCLIP) -> tuple[torch.Tensor, torch.Tensor]:
    video = torch.randn(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        return model.eval().encode_video(video)[1], model.encode_classes(NAMES)


def same(a: VideoCLIP, b: VideoCLIP, tolerance: float = 1e-6) -> None:
    for found, expected in zip(outputs(a), outputs(b), strict=True):
        assert torch.allclose(found, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("method", ["ez_clip", "vita_clip"])
def test_export_and_import_are_a_round_trip(method: str, tmp_path: Path) -> None:
    model = trained(method)
    export_published(model, tmp_path / "a.pt")
    back = import_published(tmp_path / "a.pt")
    same(model, back)
    export_published(back, tmp_path / "b.pt")
    (_, first), (_, second) = (read_published(tmp_path / f"{n}.pt") for n in "ab")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_ez_clip_without_temporal_prompts_is_a_published_format_too(tmp_path: Path) -> None:
    model = trained("ez_clip", temporal_prompts=False)
    export_published(model, tmp_path / "a.pt")
    names = read_published(tmp_path / "a.pt")[1]
    assert "visual.transformer.resblocks.0.Adapter.D_fc1.weight" in names
    assert "visual.transformer.T_prompt_embeddings" not in names
    same(model, import_published(tmp_path / "a.pt"))
    same(model, import_published(tmp_path / "a.pt", model.backbone))


@pytest.mark.parametrize("kind", ["class", "shared"])
def test_vita_clips_classes_are_read_from_the_file(kind: str, tmp_path: Path) -> None:
    model = trained("vita_clip", context=kind)
    export_published(model, tmp_path / "a.pt")
    back = import_published(tmp_path / "a.pt")
    assert back.context is not None
    assert back.context.names == NAMES
    same(model, import_published(tmp_path / "a.pt", class_names=NAMES))
    with pytest.raises(UserError, match="class 1 was 'shaking hands"):
        import_published(tmp_path / "a.pt", class_names=["riding a bike", "yoga", "yoga"])
    if kind == "class":
        with pytest.raises(UserError, match="contexts for 3 classes, not 2"):
            import_published(tmp_path / "a.pt", class_names=NAMES[:2])


def test_half_precision_and_dataparallel_files_are_read(tmp_path: Path) -> None:
    model = trained("ez_clip")
    export_published(model, tmp_path / "a.pt")
    state = torch.load(tmp_path / "a.pt", weights_only=True)["model_state_dict"]
    half = {f"module.{name}": value.half() for name, value in state.items()}
    torch.save(
        {"epoch": 3, "model_state_dict": half, "optimizer": {"lr": 0.1}}, tmp_path / "half.pt"
    )
    same(model, import_published(tmp_path / "half.pt"), tolerance=2e-2)
    placed = import_published(tmp_path / "half.pt", model.backbone)
    assert placed.clip is model.clip  # the frozen weights are the backbone's own, in full precision


def test_on_another_backbone_it_is_an_error(tmp_path: Path) -> None:
    export_published(trained("ez_clip"), tmp_path / "a.pt")
    with pytest.raises(UserError, match="was not trained on small: .* differs by"):
        import_published(tmp_path / "a.pt", backbone(seed=1))
    gelu = backbone()
    tower: Any = gelu.clip.visual
    for block in tower.transformer.resblocks:
        block.mlp.gelu = torch.nn.GELU()
    with pytest.raises(UserError, match="the published code has QuickGELU, and the image tower"):
        import_published(tmp_path / "a.pt", gelu)


def test_what_the_published_code_cannot_hold_is_not_exported(tmp_path: Path) -> None:
    own = trained("ez_clip", context="shared")
    with pytest.raises(UserError, match="has no learned text context"):
        export_published(own, tmp_path / "a.pt")
    with pytest.raises(UserError, match="has adapters, and this model none"):
        export_published(trained("ez_clip", adapter_ratio=0), tmp_path / "a.pt")
    narrow = create_model("ez_clip", small_backbone(quick_gelu=True), num_frames=2)
    with pytest.raises(UserError, match="heads of width 64, and the image tower's are 16 wide"):
        export_published(narrow, tmp_path / "a.pt")
    assert not (tmp_path / "a.pt").exists()


@pytest.mark.parametrize("clean", [True, False])
def test_names_are_taken_as_the_file_was_made_of_them(clean: bool, tmp_path: Path) -> None:
    names = ["HandstandPushups", "push-up", "Putting [something] on"]
    model = trained("vita_clip", class_names=names, clean_names=clean)
    export_published(model, tmp_path / "a.pt")
    back = import_published(tmp_path / "a.pt", class_names=names)
    with torch.no_grad():
        found, expected = back.encode_classes(names), model.encode_classes(names)
    assert torch.allclose(found, expected, atol=1e-6)


def test_names_read_from_a_half_precision_file_serve_the_annotated_ones(tmp_path: Path) -> None:
    names = ["passing American football (in game)", "class 10", "brush_hair"]
    model = trained("vita_clip", class_names=names)
    export_published(model, tmp_path / "a.pt")
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    suffix = "module.prompt_learner.token_suffix"
    content["model"][suffix] = content["model"][suffix].half()
    torch.save(content, tmp_path / "b.pt")
    back = import_published(tmp_path / "b.pt")
    with torch.no_grad():
        found, expected = back.encode_classes(names), model.encode_classes(names)
    assert torch.allclose(found, expected, atol=1e-6)


def test_what_is_no_published_checkpoint_is_described(tmp_path: Path) -> None:
    class Code:
        pass

    torch.save({"state": {"weight": torch.zeros(2)}, "epoch": 1}, tmp_path / "other.pt")
    torch.save(backbone().clip.state_dict(), tmp_path / "clip.pt")
    torch.save(torch.zeros(3, 4), tmp_path / "tensor.pt")
    torch.save({0: torch.zeros(1), "a": 1}, tmp_path / "numbered.pt")
    (tmp_path / "table.pt").write_text("epoch,loss\n1,2\n")
    (tmp_path / "pickle.pt").write_bytes(b"\x80\x02}q")
    (tmp_path / "text.pt").write_text("<html>404</html>")
    (tmp_path / "empty.pt").touch()
    whole = (tmp_path / "other.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "half.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    for name, message in {
        "other.pt": "it holds 2 entries \\(state, epoch\\), and in 'state' 1 \\(weight",
        "clip.pt": "looks like a CLIP without their prompts",
        "tensor.pt": "one tensor of shape \\(3, 4\\)",
        "text.pt": "is no PyTorch file: it begins with b'<html>",
        "empty.pt": "is empty",
        "numbered.pt": "it holds 2 entries \\(0, a\\)",
        "table.pt": "is no PyTorch file: it begins with b'epoch",
        "pickle.pt": "cannot be read as a PyTorch file",
        "cut.pt": "cannot be read as a PyTorch file",
        "half.safetensors": "not a whole safetensors file",
        "none.pt": "no file",
    }.items():
        with pytest.raises(UserError, match=message):
            import_published(tmp_path / name)


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"
    torch.save({"model_state_dict": {}, "args": fractions.Fraction(1)}, path)
    with pytest.raises(UserError, match="objects other than tensors.* fractions.Fraction"):
        import_published(path)


def test_a_file_that_lacks_tensors_says_which(tmp_path: Path) -> None:
    export_published(trained("ez_clip"), tmp_path / "a.pt")
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    state = content["model_state_dict"]
    del state["visual.transformer.resblocks.1.Adapter.D_fc2.bias"]
    state["visual.transformer.resblocks.1.Adapter.extra"] = torch.zeros(1)
    torch.save(content, tmp_path / "b.pt")
    with pytest.raises(
        UserError, match="lacks 1 tensors, the first .*D_fc2.bias; has an unknown 1"
    ):
        import_published(tmp_path / "b.pt")


@pytest.mark.parametrize("method", ["ez_clip", "vita_clip"])
def test_the_commands_make_a_checkpoint_of_ours_and_back(method: str, tmp_path: Path) -> None:
    model = trained(method)
    export_published(model, tmp_path / "a.pt")
    lines = import_to_folder(tmp_path / "a.pt", tmp_path / "ours", "", None)
    assert f"{method}, 3 frames" in lines[0]
    spec = {
        "name": "published",
        "config": tmp_path / "ours/backbone.json",
        "weights": tmp_path / "ours/backbone.safetensors",
    }
    loaded, metadata = load_checkpoint(tmp_path / "ours/model.safetensors", load_backbone(spec))
    assert metadata.method == method
    same(model, loaded)
    assert "→" in export_file(
        tmp_path / "ours/model.safetensors", tmp_path / "back.pt", str(tmp_path / "ours")
    )
    same(model, import_published(tmp_path / "back.pt"))
    small = (tmp_path / "ours/model.safetensors").stat().st_size
    assert small < 4 * sum(v.numel() for v in model.trained_state().values()) + 20_000
    with pytest.raises(UserError, match="was trained on backbone published"):
        export_file(tmp_path / "ours/model.safetensors", tmp_path / "c.pt", "ViT-S-32-alt")
