"""The pages: every link leads somewhere, and the lines that load a file elsewhere load it."""

import re
from pathlib import Path

import pytest
import torch

import mgd
from mgd.cli import main
from mgd.engine.loop.checkpoint import save_weights
from photos import photos

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path for glob in ("*.md", "docs/**/*.md", "benchmarks/*.md") for path in ROOT.glob(glob)
)
VIEWS = (ROOT / "docs" / "views.md").read_text()
FORMATS = ("safetensors", "pth", "pt2", "onnx")


def anchors(page):
    """Returns the anchors that GitHub gives the headings of a page."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def block(name):
    """Returns the lines of Python in a marked block of the page on views."""
    return re.search(
        rf"<!-- code {name} -->\n```python\n(.*?)```\n<!-- end of code -->", VIEWS, re.DOTALL
    )[1]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder with a photograph and a network in every format; and the network and its view."""
    folder = tmp_path_factory.mktemp("elsewhere")
    view = mgd.View((0.4, 0.5, 0.6), (0.2, 0.3, 0.4), 48, "bicubic", 0.8)
    network = mgd.create_model("torchvision:resnet18", num_classes=3).eval()
    # Logits far apart, so that a wrong view gives another answer.
    torch.nn.init.normal_(network.fc.weight)
    metadata = mgd.Metadata(arch="resnet18", classes=("cat", "dog", "owl"), view=view)
    save_weights(network, folder / "weights.safetensors", metadata)
    for name in FORMATS:
        words = ["--format", name, "-o", str(folder / f"student.{name}")]
        assert main(["export", str(folder / "weights.safetensors"), *words]) == 0
    photos()[1].save(folder / "photo.jpg", quality=95)
    return folder, network, metadata


@torch.no_grad()
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FORMATS)
def test_a_file_answers_elsewhere_as_here(exported, name, monkeypatch):
    pytest.importorskip("onnxruntime")
    from torchvision.io import decode_image

    folder, network, metadata = exported
    monkeypatch.chdir(folder)
    lines, names = block(name) + block("show"), {}
    assert not re.search(r"^(import|from) .*\bmgd\b", lines, re.MULTILINE)
    exec(lines, names)
    assert names["about"] == metadata.to_plain()
    seen = metadata.view(decode_image("photo.jpg", mode="RGB"))
    shown = names["show"](decode_image("photo.jpg", mode="RGB"))
    torch.testing.assert_close(shown, seen, atol=1e-5, rtol=0)
    scores = network(seen[None])
    torch.testing.assert_close(names["network"](shown[None]), scores, atol=1e-3, rtol=1e-3)
    assert names["answer"] == metadata.classes[int(scores.argmax())]
