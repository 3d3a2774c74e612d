"""The site: every page has its place, links lead somewhere, and nothing comes from another server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.docs.pages import PAGES, ROOT, links
from tests.docs.test_blocks import importable
from tools.site.configuration import configuration_pages
from tools.site.hooks import NOTEBOOK, TEXTS
from tools.site.links import outside_files, rewrite_links
from tools.site.markdown import plain_fences

CONFIG = ROOT / "mkdocs.yml"


def _pages_of(nav: Any) -> Iterator[str]:
    for entry in nav:
        if isinstance(entry, str):
            yield entry
        else:
            for part in entry.values():
                yield from [part] if isinstance(part, str) else _pages_of(part)


# pages that tools/site makes
MADE = {*configuration_pages(), *TEXTS, NOTEBOOK, "reference/cli.md"}


def test_every_page_is_in_the_navigation_once() -> None:
    docs = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    listed = list(_pages_of(yaml.safe_load(CONFIG.read_text("utf-8"))["nav"]))
    assert sorted(listed) == sorted(docs | MADE), "give a new page its place in `nav` of mkdocs.yml"


def test_links_of_pages_lead_to_files() -> None:
    wrong = []
    for page in PAGES:
        for line, target in links(page):
            path = target.partition("#")[0]
            if not path or ":" in path or (page.parent / path).exists():
                continue
            if os.path.relpath(page.parent / path, ROOT / "docs") not in MADE:
                wrong.append(f"{page.relative_to(ROOT)}:{line}: {target}")
    assert not wrong


def test_what_the_api_pages_show_is_there() -> None:
    for page in (ROOT / "docs/reference/api").glob("*.md"):
        for name in re.findall(r"^::: ([\w.]+)$", page.read_text("utf-8"), re.MULTILINE):
            module, _, last = name.rpartition(".")
            assert importable(module, last) or importable(name, ""), f"{page.name}: {name}"


def test_links_of_the_repository_become_links_of_the_site() -> None:
    text = "[a](../src/vidprompt/__init__.py) [b](dvc.md#x) ![c](pictures/review.png) [d](../README.md#y)"
    assert rewrite_links(text, "docs/dvc.md", "dvc.md") == (
        "[a](files/src/vidprompt/__init__.py) [b](dvc.md#x) ![c](pictures/review.png) [d](index.md#y)"
    )
    source = "src/vidprompt/__init__.py"
    assert outside_files(text, "docs/dvc.md") == {f"files/{source}": source}
    text = "[a folder](../examples/my_method)"
    assert rewrite_links(text, "docs/plugins.md", "plugins.md") == (
        "[a folder](files/examples/my_method/README.md.txt)"
    )
    text = "[a](docs/datasets/index.md) [b](https://example.org/docs/dvc.md) [c](no/such.md)"
    assert rewrite_links(text, "CONTRIBUTING.md", "contributing.md") == text.replace("docs/", "", 1)


def test_marks_of_the_tests_are_not_shown() -> None:
    text = (
        "```bash runs\na\n```\n  ```bash not run: why: so\nb\n  ```\n"
        "```yaml file: a/b.yaml\n```\n```text\n```"
    )
    assert plain_fences(text) == (
        '```bash\na\n```\n  ```bash\nb\n  ```\n```yaml title="a/b.yaml"\n```\n```text\n```'
    )


class _Resources(HTMLParser):
    """Addresses that a browser loads by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("script", "img", "iframe", "video", "source"):
            self.found.append(values.get("src") or "")
        elif tag == "link" and values.get("rel") not in ("canonical", "next", "prev"):
            self.found.append(values.get("href") or "")


@pytest.mark.slow
def test_the_site_is_built_and_needs_no_other_server(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 60
    for page in pages:
        text = page.read_text("utf-8")
        resources = _Resources()
        resources.feed(text)
        assert not [one for one in resources.found if re.match(r"(https?:)?//", one)], page
        assert "TODO" not in text
    assert "StarGrowing" in (tmp_path / "quickstart.html").read_text("utf-8")
    assert "--model" in (tmp_path / "reference/cli.html").read_text("utf-8")
    for style in tmp_path.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", style.read_text("utf-8")), style
