"""The gallery on the page: strips of feature maps that show the values of the run's file."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from reported import POINT, SCRIPT, make_run, read_page

from mgd.errors import InputError
from mgd.report import maps, write_report
from mgd.runfolder import Gallery, GalleryChannel, Taught, write_gallery

DICE = np.random.default_rng(1)
LABELS = ["cat", "dog"]


def some(*shape):
    return DICE.normal(size=shape).astype(np.float32)


def a_channel(number=3, student="relu", side=8, groups=2):
    size = (len(LABELS), side, side)
    target = some(*size)
    taught = Taught(
        followed=[5, 2][:groups],
        groups=groups,
        margin=-0.5,
        teacher=some(min(groups, 2), *size),
        target=target,
        after=3 * target,
    )
    return GalleryChannel(
        teacher="bn", student=student, channel=number, before=-target, taught=taught
    )


def a_gallery(*channels, labels=None, side=32):
    pictures = DICE.integers(256, size=(len(LABELS), side, side, 3), dtype=np.uint8)
    shown = list(channels) or [a_channel()]
    return Gallery(pictures=pictures, labels=labels or LABELS, channels=shown)


@pytest.fixture
def shown(tmp_path):
    """Writes the report of runs with galleries by name, and reads it."""

    def show(galleries, **options):
        runs = []
        for name, gallery in galleries.items():
            runs.append(make_run(tmp_path, name, 90.0, "mgd", 98.0, [POINT], **options))
            if gallery is not None:
                write_gallery(runs[-1].folder, gallery)
        write_report(runs, tmp_path / "report.html", "Title")
        return read_page(tmp_path / "report.html")

    return show


def strips(read):
    """Returns each labelled picture of the gallery as (label, PNG, of a picture of its own)."""
    part = re.search(r'<section id="gallery">(.*?)</section>', read.text, re.DOTALL)[1]
    found = re.findall(r'<svg [^>]*aria-label="([^"]*)">(.*?)</svg>', part, re.DOTALL)
    return [(label, png_of(body)) for label, body in found]


def png_of(body):
    coded = re.search(r'href="data:image/png;base64,([^"]+)"', body)
    return coded and Image.open(io.BytesIO(base64.b64decode(coded[1])))


def values_of(strip, number):
    """Returns what a strip shows, from -1 to 1, by the transparency of its colours."""
    colours = np.asarray(strip.convert("RGBA")).astype(float)
    width = (colours.shape[1] - 2 * (number - 1)) // number
    tiles = [colours[:, n * (width + 2) :][:, :width] for n in range(number)]
    signs = [np.where(tile[..., 0] > tile[..., 2], 1, -1) for tile in tiles]
    return np.stack([s * (t[..., 3] / 255) ** 1.25 for s, t in zip(signs, tiles, strict=True)])


def test_the_strips_show_the_maps(shown):
    channel = a_channel()
    found = dict(strips(shown({"mgd": a_gallery(channel)}, **{"mgd-reducer": "amp"})))
    taught = channel.taught
    limit = maps.limit_of(taught.teacher, taught.target)
    expected = {
        "teacher channel 5, on each image": taught.teacher[0],
        "teacher channel 2, on each image": taught.teacher[1],
        "target: absolute max pooling, on each image": taught.target,
        "student before training, on each image": channel.before,
        "student after training, on each image": taught.after,
    }
    names = list(found)
    assert names[0].startswith("Colours: blue is negative")
    assert names[1:] == ["The images, by class: cat, dog", *expected]
    for label, values in expected.items():
        seen = values_of(found[label], len(LABELS))[:, ::4, ::4]  # 8 px are drawn as 32
        assert np.abs(seen - np.clip(values / limit, -1, 1)).max() < 0.03


def test_the_images_are_on_the_page_once(shown):
    gallery = a_gallery(a_channel(3), a_channel(4))
    read = shown({"mgd": gallery})
    symbols = re.findall(r"<symbol (.*?)</symbol>", read.text)
    assert len(symbols) == 1
    pixels = np.asarray(png_of(symbols[0]))
    assert pixels.shape == (32, 66, 4)
    assert np.array_equal(pixels[:, :32, :3], gallery.pictures[0])
    assert np.array_equal(pixels[:, 34:, :3], gallery.pictures[1])
    assert not pixels[:, 32:34, 3].any()
    assert read.text.count('<use href="#gallery0"/>') == 2
    assert len(set(read.ids())) == len(read.ids())


def test_zero_has_the_colour_of_the_page():
    palette = maps.colours()
    assert palette[maps.places_of(np.zeros((1, 1, 1), np.float32), 1.0)[0, 0, 0], 3] == 0
    low, high = maps.places_of(np.array([[[-9.0, 9.0]]], np.float32), 1.0)[0, 0]
    assert (palette[low, 2] > palette[low, 0]) == (palette[high, 0] > palette[high, 2]) == 1
    assert palette[low, 3] == palette[high, 3] == 255


def test_each_box_says_what_it_shows(shown):
    text = shown({"mgd": a_gallery()}).text
    plain = re.sub("<.*?>", "", text)
    assert "Student channel 3 follows teacher channels 5, 2" in plain
    assert "Correlation with the target: \N{MINUS SIGN}1.00 before training, 1.00 after." in plain
    assert "Margin: \N{MINUS SIGN}0.50." in plain
    assert "<h4>bn → relu</h4>" in text


@pytest.mark.parametrize(
    ("groups", "said"),
    [(1, "follows teacher channel 5<"), (8, "follows teacher channels 5, 2 and 6 more<")],
)
def test_it_says_of_how_many_teacher_channels(shown, groups, said):
    assert said in shown({"mgd": a_gallery(a_channel(groups=groups))}).text


def test_a_constant_map_has_no_correlation(shown):
    channel = replace(a_channel(), before=np.ones((2, 8, 8), np.float32))
    assert "target: 0.00 before" in re.sub("<.*?>", "", shown({"mgd": a_gallery(channel)}).text)


def test_a_run_without_a_whole_gallery_shows_none(shown):
    begun = a_gallery(replace(a_channel(), taught=None))
    read = shown({"old": None, "going": begun})
    assert 'id="gallery"' not in read.text
    assert 'src="data:' not in read.text


def test_the_browser_may_show_pictures_of_the_page_alone(shown):
    read = shown({"mgd": a_gallery()})
    (policy,) = (v["content"] for _, v in read.elements if v.get("http-equiv"))
    assert "img-src data:;" in policy
    others = [s for s in read.sources if not s.startswith("data:image/png;base64,")]
    assert all(source.startswith("#") for source in others)


def test_names_of_classes_and_taps_stay_text(shown):
    gallery = a_gallery(a_channel(student=SCRIPT), labels=[SCRIPT, '">x'])
    read = shown({"mgd": gallery})
    assert SCRIPT not in read.text
    assert read.tags.count("script") == 1
    assert any(SCRIPT in (v.get("aria-label") or "") for _, v in read.elements)


def test_seeds_of_one_method_show_one_gallery(shown):
    galleries = {f"mgd-seed{seed}": a_gallery() for seed in range(3)}
    assert shown(galleries).text.count("<h3>Feature maps of") == 1


def test_the_page_stays_small(shown, tmp_path):
    """As many methods as there may be, each with as much as a run writes."""
    channels = [a_channel(n, student=f"relu{n % 4}", side=25) for n in range(12)]
    galleries = {f"mgd{n}": a_gallery(*channels, side=64) for n in range(12)}
    read = shown(galleries)
    assert (tmp_path / "report.html").stat().st_size < 4_000_000
    count = read.text.count("<h3>Feature maps of")
    assert 2 < count < 12
    assert "Left out, so that the page stays small: " in read.text


def test_a_damaged_gallery_is_told_in_one_line(tmp_path):
    run = make_run(tmp_path, "mgd", 90.0, "mgd", 98.0, [POINT])
    (run.folder / "gallery.npz").write_text("no archive")
    with pytest.raises(InputError, match=r"gallery\.npz"):
        write_report([run], tmp_path / "report.html", "Title")
