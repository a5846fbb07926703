"""The site of the documentation: it builds without a warning or the network, and is whole.

Building takes about 7 s of CPU time, once for all tests of this file.
"""

import importlib.util
import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pytest

import mgd
from browser import dom_of

pytest.importorskip("material", reason="the extra `docs` is not installed")
pytest.importorskip("mkdocstrings", reason="the extra `docs` is not installed")

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BUILD = """
import socket

def refuse(*words, **more):
    raise AssertionError(f"the network was asked for: {words}")

socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
from mkdocs.__main__ import cli
cli()
"""
PROGRAM = re.compile(r"<script\b.*?</script>|<style\b.*?</style>", re.DOTALL)
LOADED = re.compile(
    r"<(?:script|link|img|iframe|source|object)\b[^>]*?(?:src|href|data)=\"([^\"]*)"
)
FIGURE = re.compile(r"(?<![\d.])\d+\.\d+(?: ± \d+\.\d+)?(?![\d.])")


def build(config, site):
    """Runs mkdocs in a process of its own and returns it when it has ended."""
    command = [sys.executable, "-c", BUILD, "build", "--config-file", str(config)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(
        [*command, "--site-dir", str(site)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The finished build, and the folder of the site."""
    site = tmp_path_factory.mktemp("site")
    return build(ROOT / "mkdocs.yml", site), site


@pytest.fixture(scope="module")
def pages(built):
    """Path in the site -> HTML of each page."""
    done, site = built
    assert done.returncode == 0, done.stdout + done.stderr
    return {
        path.relative_to(site).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(site.rglob("*.html"))
        if path.name != "404.html"  # its links start at the root of a server
    }


@pytest.fixture(scope="module")
def anchors(pages):
    """Path in the site -> the anchors of each page."""
    return {name: set(re.findall(r"\bid=\"([^\"]+)\"", text)) for name, text in pages.items()}


def links(text):
    """Returns where the links of a page lead that are not to another site."""
    found = re.findall(r"<a\b[^>]*?href=\"([^\"]*)\"", PROGRAM.sub("", text))
    return [unescape(link) for link in found if not re.match(r"\w+:", link)]


def reached(name, link):
    """Returns the path in the site and the anchor that a link of a page leads to."""
    path, _, anchor = link.partition("#")
    place = os.path.normpath(os.path.join(os.path.dirname(name), unquote(path))) if path else name
    if path.endswith(("/", ".")) or path == "..":
        place = os.path.join(place, "index.html")
    return Path(place).as_posix(), unquote(anchor)


def test_the_site_builds_without_a_warning_and_without_the_network(built):
    done, site = built
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert not re.search("warning|error|deprecat", said, re.IGNORECASE), said
    assert (site / "index.html").exists()


def test_a_dead_link_a_missing_anchor_and_a_forgotten_page_end_the_build(tmp_path):
    """The checks that the test above relies on."""
    text = (ROOT / "mkdocs.yml").read_text()
    nav, plugins = text.index("nav:"), text.index("plugins:")
    settings = text[:nav] + "nav:\n  - index.md\n" + text[text.index("validation:") : plugins]
    settings = re.sub(r"\nhooks:\n.*\n", "\n", settings)
    (tmp_path / "mkdocs.yml").write_text(settings)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# A\n\n[b](gone.md) [c](#gone)\n")
    (tmp_path / "docs" / "forgotten.md").write_text("# F\n")
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode == 1
    for words in ("gone.md", "#gone", "forgotten.md"):
        assert words in done.stderr
    assert "3 warnings" in done.stdout


def test_every_link_of_the_site_leads_somewhere(built, pages, anchors):
    _, site = built
    dead = []
    for name, text in pages.items():
        for link in links(text):
            place, anchor = reached(name, link)
            if not (site / place).is_file() or (anchor and anchor not in anchors.get(place, ())):
                dead.append(f"{name}: {link}")
    assert dead == []


def test_nothing_is_loaded_from_elsewhere(built, pages):
    _, site = built
    for name, text in pages.items():
        from_elsewhere = [word for word in LOADED.findall(text) if re.match(r"(\w+:)?//", word)]
        assert from_elsewhere == [], name
    for path in site.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"@import|url\(\s*[\"']?(https?:)?//", text), path


def test_a_resource_from_elsewhere_would_be_found():
    text = '<script src="https://a.example/b.js"></script><link rel="x" href="//a.example/c.css">'
    assert LOADED.findall(text) == ["https://a.example/b.js", "//a.example/c.css"]


def test_every_public_name_has_one_place_in_the_reference(anchors):
    for name in mgd.__all__:
        places = [page for page, found in anchors.items() if f"mgd.{name}" in found]
        assert len(places) == 1, f"{name}: give it a line `::: mgd.{name}` on one page of docs/api"
        assert places[0].startswith("api/")


def test_every_public_name_is_in_the_list_of_names_and_leads_to_its_place(pages):
    text = (DOCS / "api" / "index.md").read_text()
    listed = re.findall(r"^\| `mgd\.(\w+)` \| \S", text, re.MULTILINE)
    assert sorted(listed) == sorted(mgd.__all__)
    linked = {link.partition("#")[2] for link in links(pages["api/index.html"])}
    assert {f"mgd.{name}" for name in mgd.__all__ if name != "__version__"} <= linked


def listing(text, name):
    """Returns what the reference shows of a name, as plain text in one line."""
    start = text.index(f'id="mgd.{name}"')
    shown = text[start : text.find("doc doc-object ", start)]
    return " ".join(unescape(re.sub(r"<[^>]+>", "", shown)).split())


def test_the_reference_shows_signature_arguments_errors_and_example(pages):
    shown = listing(pages["api/matching.html"], "assign")
    assert 'distance: Float[Tensor, "student teacher"]' in shown
    assert 'Int64[Tensor, "group student"]' in shown
    for heading in ("Parameters:", "Returns:", "Raises:", "Examples:"):
        assert heading in shown
    assert ">>> mgd.assign(distance)" in shown
    assert "tensor([[0, 1], [2, 3]])" in shown


def test_arguments_that_are_described_together_are_shown_one_by_one(pages):
    shown = listing(pages["api/distiller.html"], "Distiller")
    for name in ("teacher_view", "student_view"):
        assert re.search(rf"{name} \(View \| None, default: None \) – How each network sees", shown)


def test_a_name_in_the_text_leads_to_the_reference(pages):
    assert "api/matching.html#mgd.assign" in links(pages["method.html"])
    assert "points.html#mgd.Tap.parse" in links(pages["api/distiller.html"])


def test_files_outside_docs_that_a_page_links_to_are_in_the_site(built, pages):
    _, site = built
    assert "repository/benchmarks/index.html" in links(pages["speed.html"])
    assert "Keep a Changelog" in pages["repository/CHANGELOG.html"]
    example = unescape(re.sub(r"<[^>]+>", "", pages["repository/examples/detector.py.html"]))
    assert (ROOT / "examples" / "detector.py").read_text().splitlines()[2] in example
    rows = "benchmarks/evidence/results.jsonl"
    assert (site / "repository" / rows).read_bytes() == (ROOT / rows).read_bytes()


def test_a_link_that_shows_the_name_of_a_page_shows_its_heading(pages):
    assert '<a href="evidence.html">Evidence</a>' in pages["demo.html"]


def test_five_questions_are_answered_within_two_clicks(anchors, pages):
    questions = re.findall(
        r"^\| \[(.+?\?)\]\((\S+)\)", (DOCS / "index.md").read_text(), re.MULTILINE
    )
    subjects = ("layers", "weight", "reducer", "help me", "deploy")
    assert len(questions) == len(subjects)
    for (question, link), subject in zip(questions, subjects, strict=True):
        assert subject in question
        assert link.replace(".md", ".html") in links(pages["index.html"])
        assert link.partition("#")[2] in anchors["faq.html"]


@pytest.mark.parametrize("name", ["faq.md", "index.md"])
def test_figures_are_those_of_the_pages_that_measured_them(name):
    """Figures with a decimal point; sums and percentages of the page itself are named here."""
    text = re.sub(r"```.*?```|\]\([^)]*\)", "", (DOCS / name).read_text(), flags=re.DOTALL)
    sources = [ROOT / "README.md", *(DOCS / f"{page}.md" for page in ("evidence", "demo", "views"))]
    known = "\n".join(path.read_text() for path in sources)
    # From docs/speed.md, as percentages: 1.004 to 1.081, and 0.0109 to 0.0148.
    computed = {"0.4", "8.1", "1.1", "1.5", "2008.09958"}
    found = set(FIGURE.findall(text)) - computed
    assert found, "no figures found: is the pattern right?"
    assert [figure for figure in sorted(found) if figure not in known] == []


def test_the_choice_of_versions_is_shown_in_what_mike_builds(monkeypatch):
    from mkdocs.config.defaults import MkDocsConfig

    spec = importlib.util.spec_from_file_location("hooks", DOCS / "theme" / "hooks.py")
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    monkeypatch.delenv("MIKE_DOCS_VERSION", raising=False)
    assert "version" not in hooks.on_config(MkDocsConfig()).extra
    monkeypatch.setenv("MIKE_DOCS_VERSION", mgd.__version__)
    assert hooks.on_config(MkDocsConfig()).extra["version"] == {"provider": "mike"}


def test_the_search_works_in_pages_that_are_opened_as_files(built, pages):
    _, site = built
    page = f"{(site / 'index.html').as_uri()}?q=reducer"
    dom = dom_of(page, "--virtual-time-budget=60000")
    assert re.search(r"md-search-result__meta\">\d+ matching documents", dom)
