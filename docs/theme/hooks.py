"""What the site adds to MkDocs: files outside docs/, links to the reference, versions.

The pages are written to be read on a code host as well. There a link to `../CHANGELOG.md` or
`../examples/own_network.py` is right. In the site, every file that a page links to outside docs/
becomes a part of the site below `repository/`: Markdown as a page, source text as a page with a
listing, all else as a file to download.
"""

import os
import re
from pathlib import Path
from posixpath import dirname, normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import mgd

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(?P<text>\[[^\]\[]*\])\((?!\w+:|#)(?P<path>[^)\s#]+)(?P<anchor>[^)\s]*)\)")
LISTINGS = {".py": "python", ".yaml": "yaml", ".cff": "yaml", ".toml": "toml"}
PUBLIC = re.compile(r"<(a|h\d|pre)\b.*?</\1>|<code>(?:mgd\.)?(\w+)(\.\w+)?</code>", re.DOTALL)
NAMES = {name for name in mgd.__all__ if not name.startswith("__")}


def place(path: str) -> str:
    """Returns where a file of the repository stands in the site."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"repository/{path}" + (".md" if Path(path).suffix in LISTINGS else "")


def beside(path: str, link: str) -> str:
    """Returns what a link in a file of the repository leads to, as a path from its root."""
    return normpath(f"{dirname(path)}/{link}").lstrip("/")


def targets(path: str) -> list[str]:
    """Returns the files of the repository that a page links to, as paths from its root."""
    links = LINK.finditer((ROOT / path).read_text(encoding="utf-8"))
    found = [beside(path, link["path"]) for link in links]
    return [target for target in found if (ROOT / target).is_file()]


def make_file(path: str, config: MkDocsConfig) -> File:
    """Makes the file of the site for a file outside docs/."""
    suffix = Path(path).suffix
    if suffix in LISTINGS:
        text = (ROOT / path).read_text(encoding="utf-8")
        listing = f"# {path}\n\n`````{LISTINGS[suffix]}\n{text}`````\n"
        return File.generated(config, place(path), content=listing)
    return File.generated(config, place(path), abs_src_path=str(ROOT / path))


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Shows the choice of versions in what mike builds: alone, a site has no list of them."""
    if "MIKE_DOCS_VERSION" in os.environ:
        config.extra["version"] = {"provider": "mike"}
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what the pages link to outside docs/, and what those pages link to."""
    pages = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    seen = set(pages)
    while pages:
        for path in targets(pages.pop()):
            if path in seen or path.startswith("docs/"):
                continue
            seen.add(path)
            files.append(make_file(path, config))
            if path.endswith(".md"):
                pages.append(path)
    return files


def heading_of(path: str) -> str:
    """Returns the first heading of a page."""
    found = re.search(r"^# (.*)", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else path


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leads each link to the place of its file in the site.

    A link that a reader sees as the name of a page, `[demo.md](demo.md)`, gets the page's heading.
    """
    uri = page.file.src_uri
    path = uri.removeprefix("repository/") if uri.startswith("repository/") else f"docs/{uri}"

    def moved(link: re.Match[str]) -> str:
        target = beside(path, link["path"])
        if not (ROOT / target).is_file():
            return link[0]
        text = f"[{heading_of(target)}]" if link["text"].endswith(".md]") else link["text"]
        return f"{text}({relpath(place(target), dirname(uri))}{link['anchor']})"

    return LINK.sub(moved, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links each public name in the text to its place in the reference; keeps `1 ± 2` together."""

    def linked(found: re.Match[str]) -> str:
        if found[2] not in NAMES:
            return found[0]
        name = f"mgd.{found[2]}{found[3] or ''}"
        return f'<autoref identifier="{name}" optional>{found[0]}</autoref>'

    return PUBLIC.sub(linked, html).replace(" ± ", "&nbsp;±&nbsp;")
