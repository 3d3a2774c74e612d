"""Hooks of MkDocs: pages that are made of other files, and links that are written for the repository."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]  # MkDocs runs this file by itself

from tools.site.configuration import configuration_pages  # noqa: E402
from tools.site.links import outside_files, rewrite_links  # noqa: E402
from tools.site.markdown import plain_fences, with_includes  # noqa: E402
from tools.site.notebook import notebook_page  # noqa: E402

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

# page of the site → the file of the repository that it is
TEXTS = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
NOTEBOOK = "quickstart.md"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here, and the repository's files that pages link to."""
    from mkdocs.structure.files import File

    pages = configuration_pages()
    pages["reference/cli.md"] = _command_line()
    pages[NOTEBOOK] = notebook_page(ROOT / "docs/quickstart.ipynb")
    pages |= {name: (ROOT / source).read_text("utf-8") for name, source in TEXTS.items()}
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    copies = dict[str, str]()
    for file in files.documentation_pages():
        copies |= outside_files(file.content_string, _source(file.src_uri))
    for name, path in sorted(copies.items()):
        files.append(File.generated(config, name, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page's text with the site's links and what it includes, without the tests' marks."""
    del config, files
    source = _source(page.file.src_uri)
    markdown = with_includes(markdown, ROOT)
    return plain_fences(rewrite_links(markdown, source, page.file.src_uri))


def _source(page: str) -> str:
    """The file of the repository that a page's links are relative to."""
    return TEXTS.get(page, f"docs/{page}")


def _command_line() -> str:
    from tools.site.command_line import command_line_page

    return command_line_page()
