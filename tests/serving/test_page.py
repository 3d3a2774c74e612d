"""The page of `vidprompt app` in a real browser: what people see, click and hear."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.data.make_videos import write_video
from tests.prediction.small_model import small_model
from tests.serving.browser import browser
from tests.serving.small_service import LIMITS, running

from vidprompt.serving.limits import ServiceLimits
from vidprompt.serving.service import Service

pytestmark = pytest.mark.slow

CLASSES = ["open door", "close door"]
TOKEN = "0123456789abcdef-token"
NAMELESS = """() => [...document.querySelectorAll('input, textarea, button, a, canvas, video')]
  .filter(one => one.checkVisibility() && !one.closest('[aria-hidden=true]'))
  .filter(one => !(one.labels?.length || one.getAttribute('aria-label') || one.textContent.trim()
    || one.closest('button')?.getAttribute('aria-label') || one.tagName === 'VIDEO'))
  .map(one => one.outerHTML)"""
CONTRAST = """() => {
  const luminance = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map(v => v / 255)
      .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const back = (one) => {
    for (; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (!/, 0\\)$|transparent/.test(colour)) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  return [...document.querySelectorAll('body *')]
    .filter(one => one.checkVisibility())
    .filter(one => [...one.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()))
    .filter(one => !one.closest('[aria-disabled=true], .visually-hidden, .skip'))
    .map(one => {
      const [a, b] = [luminance(getComputedStyle(one).color), luminance(back(one))];
      return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), one.outerHTML.slice(0, 120)];
    })
    .filter(([ratio]) => ratio < 4.5);
}"""


class FoundIndex:
    info = SimpleNamespace(window=2.0)

    def __len__(self) -> int:
        return 1234

    def search_feature(self, feature: Any, *, top: int, overlapping: bool) -> Any:
        hits = [
            SimpleNamespace(rank=k, video=f"day {k}/clip.mp4", start=0.0, end=2.0, score=0.5 / k)
            for k in (1, 2, 3)
        ]
        return SimpleNamespace(hits=hits)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def service() -> Service:
    return Service(small_model(), ServiceLimits(**LIMITS), FoundIndex())


@pytest.fixture(scope="module")
def address(service: Service) -> Iterator[str]:
    with running(service, page=True) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture
def page(chromium: Any, address: str) -> Iterator[Any]:
    """The page, loaded; at its end there must be no error in the browser's console."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    messages: list[str] = []
    page.on("console", lambda message: messages.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: messages.append(f"error: {error}"))
    page.goto(address)
    page.wait_for_selector("html[data-ready=true]")
    yield page
    context.close()
    wanted = "status of 4"  # the browser's line for each answer that is an error
    assert [line for line in messages if line.startswith("error") and wanted not in line] == []


def wait(page: Any, expression: str) -> None:
    """Until a JavaScript expression is true; Playwright's own waiting needs `eval`, which is forbidden."""
    end = time.monotonic() + 20
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(20)


def choose(page: Any, video: Path) -> None:
    page.set_input_files("#file", str(video))
    page.wait_for_selector("#player:not([hidden])")


def test_a_prediction_is_shown_as_bars(page: Any, service: Service, video: Path) -> None:
    choose(page, video)
    page.fill("#classes", "\n".join(CLASSES))
    page.click("#predict button[type=submit]")
    page.wait_for_selector("#bars li")
    expected = service.model.predict(video, CLASSES)
    assert page.locator("#bars .label").all_text_contents() == [name for name, _ in expected.top()]
    status = page.locator("#predict [role=status]").text_content()
    assert status.startswith(f"{expected.label}, {100 * expected.score:.0f} %")
    widths = page.locator("#bars .bar span").evaluate_all("all => all.map(one => one.style.width)")
    shares = [float(width.rstrip("%")) / 100 for width in widths]
    assert shares == pytest.approx([value for _, value in expected.top()], abs=1e-3)
    assert page.evaluate("document.querySelector('#video').readyState >= 1")


def test_the_time_line_seeks_on_click_and_by_keyboard(
    page: Any, service: Service, tmp_path: Path
) -> None:
    video = write_video(tmp_path / "h264.mp4", 100)
    choose(page, video)
    wait(page, "document.querySelector('#video').duration > 3")
    page.fill("#classes", ",".join(CLASSES))
    page.fill("#window", "0.5")
    page.fill("#stride", "0.5")
    page.click("#segments button[type=submit]")
    page.wait_for_selector("#timeline:not([hidden])")
    spans = list(service.model.segments(video, CLASSES, 0.5, 0.5))
    assert spans
    assert (
        page.locator("#spans button").count() == page.locator("#track button").count() == len(spans)
    )
    page.locator("#track").click(
        position={"x": 0.75 * page.locator("#track").bounding_box()["width"], "y": 9}
    )
    wait(page, "Math.abs(document.querySelector('#video').currentTime - 3) < 0.1")
    page.locator("#spans button").first.focus()
    page.keyboard.press("Enter")
    wait(page, f"Math.abs(document.querySelector('#video').currentTime - {spans[0].start}) < 0.1")


def test_an_explanation_shows_each_frame(page: Any, video: Path) -> None:
    choose(page, video)
    page.fill("#explain-text", "somebody opens a door")
    page.click("#explain button[type=submit]")
    page.wait_for_selector("#frames li")
    assert page.locator("#frames canvas").count() == 4
    assert "counts most" in page.locator("#explain [role=status]").text_content()
    painted = "one => [...one.getContext('2d').getImageData(0, 0, 9, 9).data].some(v => v)"
    assert page.locator("#frames canvas").first.evaluate(painted)


def test_the_index_is_searched_by_text_and_by_the_video(page: Any, video: Path) -> None:
    assert "1,234" in page.locator("#search-title").text_content()
    page.fill("#search-text", "somebody falls")
    page.press("#search-text", "Enter")
    page.wait_for_selector("#hits li")
    assert page.locator("#hits .label").first.text_content().startswith("clip.mp4")
    page.check("#like")
    page.click("#search button[type=submit]")
    wait(page, "document.querySelector('#search [role=status]').textContent.includes('first')")


def test_errors_are_sentences(page: Any, tmp_path: Path, video: Path) -> None:
    status = page.locator("#predict [role=status]")
    page.click("#predict button[type=submit]")
    assert status.text_content() == "Choose a video first."
    (tmp_path / "notes.mp4").write_text("no video")
    choose(page, tmp_path / "notes.mp4")
    page.wait_for_selector("#unplayable:not([hidden])")
    page.fill("#classes", "a,b")
    page.click("#predict button[type=submit]")
    wait(page, "document.querySelector('#predict .message').textContent.includes('notes')")
    assert "cannot be read as a video" in status.text_content()
    assert "error" in status.get_attribute("class")
    (tmp_path / "large.mp4").write_bytes(bytes(2 * 2**20))
    page.set_input_files("#file", str(tmp_path / "large.mp4"))
    page.wait_for_selector("#video-error:not([hidden])")
    assert "this server takes 1 MB" in page.locator("#video-error").text_content()


def test_a_busy_server_is_asked_again(page: Any, service: Service, video: Path) -> None:
    choose(page, video)
    page.fill("#classes", "a,b")
    service.capacity.running = service.capacity.limit
    page.click("#predict button[type=submit]")
    wait(page, "document.querySelector('#predict .message').textContent.includes('busy')")
    service.capacity.running = 0
    page.wait_for_selector("#bars li")


def test_a_request_can_be_cancelled(page: Any, service: Service, video: Path) -> None:
    choose(page, video)
    service.capacity.running = service.capacity.limit
    page.click("#predict button[type=submit]")
    wait(page, "document.querySelector('#predict .message').textContent.includes('busy')")
    page.click("#predict button[type=submit]")
    wait(page, "document.querySelector('#predict .message').textContent === 'Cancelled.'")
    service.capacity.running = 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390, 320])
def test_it_can_be_read_in_every_width_and_theme(
    page: Any, video: Path, scheme: str, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    choose(page, video)
    page.fill(
        "#classes",
        "\n".join([*CLASSES, "a long name of a class that has no place on one line of a phone"]),
    )
    for form in ("predict", "segments", "explain"):
        page.click(f"#{form} button[type=submit]")
    page.wait_for_selector("#bars li")
    page.wait_for_selector("#frames li")
    page.wait_for_selector("#timeline:not([hidden])")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate(CONTRAST) == []


def test_all_controls_are_reached_with_the_keyboard(page: Any) -> None:
    reached = []
    for _ in range(14):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()")
        )
    wanted = [
        "Skip to the classes",
        "file",
        "classes",
        "Predict",
        "window",
        "stride",
        "Draw the time line",
    ]
    wanted += ["explain-text", "Explain", "search-text", "like", "Search"]
    assert [name for name in reached if name in wanted][: len(wanted)] == wanted


def test_the_token_is_asked_for(chromium: Any) -> None:
    service = Service(small_model(), ServiceLimits(**LIMITS))
    with running(service, page=True, token=TOKEN) as port:
        page = chromium.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_selector("#token-dialog[open]")
        page.fill("#token", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#token-error:not([hidden])")
        page.fill("#token", TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_selector("html[data-ready=true]")
        assert "small" in page.locator("#model").text_content()
        assert page.locator("#search-card").is_hidden()
        page.close()
