"""The page of real runs in a browser: both themes, phone and desktop, without a message.

The pictures are kept in the folder that the variable MGD_SCREENSHOTS names, to be looked at.
"""

import os
from pathlib import Path

import pytest
from PIL import Image

from browser import photograph
from mgd.cli import main

RUN = ["digits", "--size", "8", "--arch", "cifar_resnet8_x0_25", "--train-images", "40"]
RUN += ["--epochs", "2", "--batch-size", "20", "--workers", "0", "--tensorboard", "0"]
TAUGHT = ["--teacher", "cifar_resnet8_x0_5", "--use-pretrained", "0", "--mgd-with-kd", "1"]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of two students alone and two distilled ones."""
    folder = tmp_path_factory.mktemp("shown")
    place = ["--output", str(folder)]
    for seed in ("0", "1"):
        common = [*RUN, *place, "--seed", seed, "--experiment"]
        assert main(["train", *common, f"alone-{seed}"]) == 0
        assert main(["distill", *common, f"mgd-{seed}", *TAUGHT]) == 0
    runs = sorted(str(each) for each in folder.iterdir())
    assert main(["report", *runs, "-o", str(folder / "report.html")]) == 0
    return folder / "report.html"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_shows_itself_without_a_message(page, width, theme, tmp_path):
    folder = Path(os.environ.get("MGD_SCREENSHOTS") or tmp_path).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    picture = folder / f"report-{width}-{theme}.png"
    assert photograph(page, picture, width, theme) == []
    shown = Image.open(picture).convert("L")
    assert shown.width >= width
    edge = shown.getpixel((2, shown.height // 2))
    assert edge > 240 if theme == "light" else edge < 60


def test_a_message_would_be_seen(tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<script>console.error('oops')</script>")
    (message,) = photograph(page, tmp_path / "page.png", 400, "light")
    assert "oops" in message
