"""EZ-CLIP's dropout and stochastic depth in both towers: the plain computation with the same draws."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.models.small import small_backbone
from tests.models.test_reference import assert_near, backbone, randomise
from tests.reference import published_models as published
from tests.training.small_run import CLASSES, run, values

from vidprompt.models import create_model
from vidprompt.models.backbones.open_clip_towers import eot_positions
from vidprompt.models.layers import attention
from vidprompt.models.layers.dropout_attention import dropout_attention
from vidprompt.models.layers.stochastic_depth import LayerDraws
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.models.text.prompts import PromptSet
from vidprompt.published.checkpoints import published_state
from vidprompt.published.naming import to_published
from vidprompt.training.objectives import ContrastiveMotion, CrossEntropy

FRAMES, RATE = 3, 0.5
TEXTS = ["a", "riding a bike", "playing the violin on a roof"]  # in the order of their lengths


def build(**options: Any) -> VideoCLIP:
    torch.manual_seed(0)
    model = create_model("ez_clip", small_backbone(layers=3), num_frames=FRAMES, **options).train()
    randomise(model)
    return model


def clips(size: int = 2, pixels: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(size, FRAMES, 3, pixels, pixels, generator=generator)


def position_factors(path: torch.Tensor, length: int) -> torch.Tensor:
    """Length-first factors (length, 1, 1) as ours (1, length, 1)."""
    return path[:length].permute(1, 0, 2)


def inject(
    model: VideoCLIP, video: published.Masks, text: published.Masks, rates: list[float], n: int
) -> None:
    """Give the model the draws that the plain computation made."""
    vision, words = [], []
    paths, text_paths = iter(video.paths), iter(text.paths)
    for layer, rate in enumerate(rates):
        time, space, mlp = [next(paths) for _ in range(3)] if rate else [None] * 3
        first = None if space is None else position_factors(space, n)
        second = None if mlp is None else position_factors(mlp, n)
        third = None if time is None else position_factors(time, FRAMES)
        vision.append(LayerDraws(rate, first, second, third, video.prompts[layer]))
    for rate in rates[: len(model.text_blocks)]:
        length = model.clip.context_length
        one = [position_factors(next(text_paths), length) if rate else None for _ in range(2)]
        words.append(LayerDraws(rate, *one))
    model.video_draws = lambda *arguments: vision  # type: ignore[method-assign]
    model.text_draws = lambda n: words  # type: ignore[method-assign]


def written_out(weights: Iterator[torch.Tensor], eot: torch.Tensor) -> Any:
    """`dropout_attention` with given factors (n, heads, queries, keys)."""

    def attend(
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        rate: float,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        kept = next(weights)
        if mask is not None and q.shape[2] == 1:  # of the last text layer: the end of the text
            kept = kept[torch.arange(len(q)), :, eot[: len(q)]][:, :, None]
            eot[: len(eot) - len(q)] = eot[len(q) :].clone()
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        return (scores.softmax(-1) * kept[:, :, : q.shape[2], : k.shape[2]]) @ v

    return attend


@pytest.mark.parametrize("chunk", [1, 64])
@pytest.mark.parametrize("layers", [2, 3])
def test_both_towers_drop_what_the_plain_computation_drops(
    layers: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(layers)
    base = backbone(layers, 2, 4, 2, text_layers=2, text_heads=2)
    options = {"prompt_dropout": 0.3, "stochastic_depth": RATE}
    model = create_model("ez_clip", base, num_frames=FRAMES, **options).train()
    randomise(model)
    state, video = published_state(model), clips(pixels=8)
    tokens = base.tokenizer(TEXTS)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    for name in to_published(model, trained):
        state[name] = state[name].clone().requires_grad_()

    seen, read = published.Masks(), published.Masks()
    rates = published.ez_clip_rates(state, RATE)
    frames = published.ez_clip_video(state, video, prompt_dropout=0.3, depth=RATE, masks=seen)
    embedded = state["token_embedding.weight"][tokens]
    text = published.encode_text(state, "", embedded, eot_positions(tokens), rates, read)
    assert text.isfinite().all()
    assert seen.paths
    assert read.paths

    inject(model, seen, read, rates, n=5)
    parts = [[i] for i in range(3)] if chunk == 1 else [[0, 1, 2]]
    of_texts = [weights[rows] for rows in parts for weights in read.weights]
    monkeypatch.setattr(
        attention,
        "dropout_attention",
        written_out(iter([*seen.weights, *of_texts]), eot_positions(tokens).clone()),
    )
    found, found_text = model.encode_video(video)[0], model.encode_text(tokens, chunk)
    assert_near(found, frames, "frame features")
    assert_near(found_text, text, "text features")
    weight = torch.randn(2, FRAMES, 3)
    for own, other in ((found, found_text), (frames, text)):
        (torch.einsum("bte,ce->btc", own, other) * weight).sum().backward()
    gradients = {n: p.grad for n, p in trained.items()}
    assert all(gradient is not None for gradient in gradients.values())
    for name, gradient in to_published(model, gradients).items():  # type: ignore[arg-type]
        plain = state[name].grad
        assert plain is not None
        assert_near(gradient, plain.reshape(gradient.shape), name)


def without_attention_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention without dropout, which is drawn apart for every chunk."""

    def plain(q: Any, k: Any, v: Any, rate: float, mask: Any = None) -> torch.Tensor:
        return F.scaled_dot_product_attention(q, k, v, mask)

    monkeypatch.setattr(attention, "dropout_attention", plain)
    if torch.cuda.is_available():  # where PyTorch's own attention drops
        fused = F.scaled_dot_product_attention

        def undropped(
            q: Any, k: Any, v: Any, mask: Any = None, _: float = 0.0, causal: bool = False
        ) -> torch.Tensor:
            return fused(q, k, v, mask, 0.0, causal)

        monkeypatch.setattr(attention.F, "scaled_dot_product_attention", undropped)


def test_rates_rise_alike_in_both_towers() -> None:
    model = build(stochastic_depth=0.4)
    assert model.drop_rates == pytest.approx([0, 0.2, 0.4])
    assert model.text_drop_rates == pytest.approx([0, 0.2])  # of vision layers 0 and 1
    assert build(text_stochastic_depth=0.3).text_drop_rates == pytest.approx([0, 0.3])
    off = build(stochastic_depth=0.4, text_stochastic_depth=0.0)
    assert not off.drops_text
    assert torch.equal(off.encode_texts(TEXTS), off.eval().encode_texts(TEXTS))
    assert not torch.equal(model.encode_texts(TEXTS), model.encode_texts(TEXTS))
    assert torch.equal(model.eval().encode_texts(TEXTS), model.encode_texts(TEXTS))


def test_shares_that_are_dropped_are_the_rates_and_positions_are_of_the_whole_batch() -> None:
    model = build(stochastic_depth=RATE, prompt_dropout=0.2)
    draws = [model.video_draws(7, FRAMES, seed) for seed in range(400)]
    assert all(
        one[0].attention is one[0].mlp is None for one in draws
    )  # the first layer's rate is 0
    for layer in (1, 2):
        rate = model.drop_rates[layer]
        for name, shape in (("attention", (1, 5, 1)), ("mlp", (1, 5, 1)), ("time", (1, FRAMES, 1))):
            factors = torch.stack([getattr(one[layer], name) for one in draws])
            assert factors.shape[1:] == shape
            assert factors.unique().tolist() == pytest.approx([0, 1 / (1 - rate)])
            assert (factors == 0).float().mean() == pytest.approx(rate, abs=0.04)
    prompts = torch.stack([one[2].prompt for one in draws])
    assert (prompts == 0).float().mean() == pytest.approx(0.2, abs=0.01)
    again = model.video_draws(2, FRAMES, 5)
    assert torch.equal(again[2].mlp, draws[5][2].mlp)
    assert not torch.equal(again[2].mlp, again[2].attention)
    by_sample = build(stochastic_depth=RATE, stochastic_depth_axis="sample")
    drawn = by_sample.video_draws(7, FRAMES, 5)[2]
    assert drawn.attention.shape == drawn.mlp.shape == (7 * FRAMES, 1, 1)
    assert drawn.time.shape == (7, 1, 1)
    assert by_sample.text_draws(4)[1].mlp.shape == (4, 1, 1)


@pytest.mark.parametrize("axis", ["token", "sample"])
def test_chunks_of_texts_drop_the_same_positions(
    axis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_attention_dropout(monkeypatch)
    model = build(stochastic_depth=RATE, stochastic_depth_axis=axis)
    features = []
    for chunk in (64, 1, 2):
        torch.manual_seed(5)
        features.append(model.encode_texts(TEXTS, chunk))
    assert torch.allclose(features[0], features[1], atol=1e-6)
    assert torch.allclose(features[0], features[2], atol=1e-6)
    assert not torch.allclose(features[0], model.encode_texts(TEXTS), atol=1e-3)


@pytest.mark.usefixtures(
    "on_the_cpu"
)  # a GPU's sums differ with the batch, and Adam's steps with them
def test_micro_batches_drop_the_same_positions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_attention_dropout(monkeypatch)
    trained = []
    for parts in (1, 2):
        torch.manual_seed(0)
        model = create_model(
            "ez_clip", small_backbone(layers=3), num_frames=2, stochastic_depth=RATE
        )
        chosen = ContrastiveMotion(model, CLASSES, PromptSet(("a {}",)), motion_weight=1.0)
        model.recompute = "layer" if parts == 2 else "nothing"
        monkeypatch.setattr(model, "_videos_per_chunk", lambda video: 1)
        run(tmp_path / str(parts), chosen, micro_batches=parts, steps=3, clip_grad=None, lr=1e-3)
        trained.append(values(chosen))
    for name, value in trained[0].items():
        assert torch.allclose(value, trained[1][name], atol=2e-5), name


@pytest.mark.parametrize("recompute", ["mlp", "layer"])
def test_what_is_recomputed_is_dropped_again(recompute: str) -> None:
    gradients = []
    for what in ("nothing", recompute):
        model = build(stochastic_depth=RATE, prompt_dropout=0.3)
        model.recompute = what
        torch.manual_seed(3)
        CrossEntropy(model, TEXTS, PromptSet())(clips(), torch.tensor([0, 2]))["loss"].backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], rtol=1e-4, atol=1e-6), name


def test_samples_of_one_class_have_text_dropout_of_their_own() -> None:
    labels = torch.tensor([0, 1, 1, 0])
    for rate, apart in ((RATE, True), (0.0, False)):
        model = build(stochastic_depth=rate, prompt_dropout=0.0)
        drawn = [LayerDraws(rate)] * 2  # attention dropout alone: no position is dropped
        model.text_draws = lambda n, drawn=drawn: drawn  # type: ignore[method-assign,misc]
        loss = ContrastiveMotion(model, TEXTS, PromptSet()).train()
        text = loss.sample_text(labels)
        assert torch.equal(text[1], text[2]) is not apart
        assert torch.equal(loss.eval().sample_text(labels)[1], loss.sample_text(labels)[2])


def test_attention_with_dropout_obeys_its_mask_and_is_differentiable() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(3, 1, 4, 2, dtype=torch.double, requires_grad=True) for _ in range(3))
    causal = torch.ones(4, 4, dtype=torch.bool).tril()
    apart = (torch.arange(4) <= torch.tensor([2, 3, 0])[:, None])[:, None, None]
    for mask in (causal, apart):
        with torch.no_grad():
            plain = F.scaled_dot_product_attention(q, k, v, mask)
            assert torch.allclose(dropout_attention(q, k, v, 0.0, mask), plain)
            draws = torch.stack([dropout_attention(q, k, v, 0.3, mask) for _ in range(600)])
        assert (draws.mean(0) - plain).abs().max() < 0.25

        def seeded(q: Any, k: Any, v: Any, mask: torch.Tensor = mask) -> torch.Tensor:
            torch.manual_seed(1)
            return dropout_attention(q, k, v, 0.3, mask)

        assert torch.autograd.gradcheck(seeded, (q, k, v))
