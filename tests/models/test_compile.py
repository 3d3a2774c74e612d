"""A compiled model has few graphs whatever its depth and dropout rates, and the numbers of a plain one."""

import pytest
import torch
from tests.models.small import small_backbone
from tests.models.test_reference import randomise
from torch._dynamo.utils import counters

from vidprompt.models import create_model
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.system.errors import UserError

FRAMES, LAYERS = 2, 6


def build(method: str, layers: int = LAYERS) -> VideoCLIP:
    torch.manual_seed(0)
    rates = {"stochastic_depth": 0.3} if method == "ez_clip" else {"context": "none"}
    model = create_model(method, small_backbone(layers=layers), num_frames=FRAMES, **rates)
    randomise(model)
    return model.train()


def step(model: VideoCLIP, half: bool) -> dict[str, torch.Tensor]:
    """Frame features and gradients of a step, with the same numbers drawn each time."""
    model.zero_grad()
    clips = torch.randn(3, FRAMES, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(2)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        frames = model.encode_video(clips, batch_seed=5)[0]
    frames.float().sin().sum().backward()
    gradients = {n: p.grad.float() for n, p in model.named_parameters() if p.grad is not None}
    return {"frames": frames.detach().float()} | gradients


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(("method", "graphs"), [("ez_clip", 3), ("vita_clip", 2)])
def test_a_graph_serves_all_layers(method: str, graphs: int, half: bool) -> None:
    """One for the layers between the first, where nothing is dropped, and the last, of fewer tokens."""
    expected, model = step(build(method), half), build(method)
    torch._dynamo.reset()
    counters.clear()
    model.compile(backend="aot_eager", fullgraph=True)
    for _ in range(2):
        found = step(model, half)
    assert counters["stats"]["unique_graphs"] == graphs
    assert not counters["graph_break"]
    assert found.keys() == expected.keys()
    largest = max(float(one.norm()) for one in expected.values())
    for name, value in expected.items():
        assert (found[name] - value).norm() <= (3e-2 if half else 1e-5) * largest, name


def test_what_is_recomputed_is_not_compiled() -> None:
    model = build("vita_clip", layers=2)
    model.recompute = "mlp"
    with pytest.raises(
        UserError, match="compile=true goes with trainer.recompute=nothing, not mlp"
    ):
        model.compile()
