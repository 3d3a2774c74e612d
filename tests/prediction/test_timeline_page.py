"""The page with a time line, in a browser without a network."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.data.make_videos import ffmpeg
from tests.serving.browser import NAMES, browser

from vidprompt.prediction.results import Span
from vidprompt.prediction.timeline_page import write_timeline

SPANS = [Span(0.0, 2.5, "<b>open</b>", 0.9), Span(6.0, 9.0, "close", 0.8)]


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, NAMES)), reason="no browser is installed")
@pytest.mark.parametrize("embedded", [True, False])
def test_a_click_seeks(embedded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not embedded:
        monkeypatch.setattr("vidprompt.prediction.timeline_page._EMBEDDED_BYTES", 0)
    video = tmp_path / "a clip #1.webm"
    card = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=10:duration=10")
    ffmpeg(*card, "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", video)
    page_file = tmp_path / "pages/page.html"
    write_timeline(page_file, str(video), SPANS, duration=10, model="m", window=2, stride=1)
    with browser() as chromium:
        page = chromium.new_page(viewport={"width": 1000, "height": 900})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(page_file.as_uri())
        page.wait_for_function("document.getElementById('video').readyState > 0")
        assert page.locator(".track button").count() == 2
        page.locator(".track button").last.click()
        page.wait_for_function("document.getElementById('video').currentTime >= 6")
        assert "close" in page.inner_text("#now")
        box = page.locator(".track").first.bounding_box()
        page.mouse.click(box["x"] + 0.1 * box["width"] + 1, box["y"] + 2)
        page.wait_for_function("Math.abs(document.getElementById('video').currentTime - 1) < 0.9")
        assert "<b>open</b>" in page.inner_text("#now")
        assert page.locator("#problem").is_hidden()
        assert not errors
