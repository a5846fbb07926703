"""Images that a user names: files, folders and patterns become paths, each once, in order."""

import os

import pytest
from PIL import Image

from mgd.data import find_images
from mgd.data.folder import FolderSplit
from mgd.errors import InputError


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder `photos` in the current one, with images in it and below, and other files."""
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.JPG", "sub/z.png", "sub/y.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3), (255, 0, 0)).save(path)
    (tmp_path / "photos" / "notes.txt").touch()
    (tmp_path / "empty").mkdir()
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("place", "found"),
    [
        ("photos/b.png", ["photos/b.png"]),
        ("photos", ["photos/a.JPG", "photos/b.png", "photos/sub/y.jpg", "photos/sub/z.png"]),
        ("photos/*.png", ["photos/b.png"]),
        ("photos/**/*.png", ["photos/b.png", "photos/sub/z.png"]),
        ("photos/[ab].*", ["photos/a.JPG", "photos/b.png"]),
        ("photos/s*", ["photos/sub/y.jpg", "photos/sub/z.png"]),  # as if the shell had read it
        ("photos/*b*", ["photos/b.png", "photos/sub/y.jpg", "photos/sub/z.png"]),
        ("photos/*[.t]*", ["photos/a.JPG", "photos/b.png"]),  # and notes.txt
    ],
)
def test_a_place_becomes_its_images(photos, place, found):
    assert find_images([place]) == [os.path.join(*path.split("/")) for path in found]


def test_the_order_is_kept_and_an_image_found_twice_is_there_once(photos):
    places = ["photos/sub", "photos/b.png", str(photos / "b.png"), "./photos/*.JPG", "photos"]
    assert find_images(places) == [
        os.path.join("photos", "sub", "y.jpg"),
        os.path.join("photos", "sub", "z.png"),
        "photos/b.png",
        os.path.join(".", "photos", "a.JPG"),
    ]


def test_no_place_gives_no_image():
    assert find_images([]) == []


def test_a_name_with_the_signs_of_a_pattern_is_a_file_first(photos):
    (photos / "b.png").rename(photos / "[a].png")
    assert find_images(["photos/[a].png"]) == ["photos/[a].png"]


def test_links_are_followed_once(photos):
    (photos / "sub" / "up").symlink_to(photos)
    (photos / "linked.png").symlink_to(photos / "b.png")
    names = ["a.JPG", "b.png", "linked.png", "y.jpg", "z.png"]
    assert [os.path.basename(path) for path in find_images(["photos"])] == names
    assert len(find_images(["photos/**/*.png"])) == 3


@pytest.mark.parametrize(
    ("place", "fault"),
    [
        ("nowhere.png", "'nowhere.png' matches no image"),
        ("photos/*.gif", r"'photos/\*.gif' matches no image"),
        ("photos/*.txt", r"'photos/\*.txt' matches no image"),
        ("photos/notes.txt", "'photos/notes.txt' is no image and holds none"),
        ("empty", "'empty' is no image and holds none"),
        ("", "'' matches no image"),
    ],
)
def test_a_place_without_an_image_is_named(photos, place, fault):
    with pytest.raises(InputError, match=fault) as caught:
        find_images(["photos/b.png", place])
    assert "\n" not in str(caught.value)
    assert ".png" in str(caught.value)


def test_the_images_make_a_split_without_labels(photos):
    split = FolderSplit([(path, -1) for path in find_images(["photos"])])
    assert split.labels == [-1] * 4
    assert split.image(1).shape == (3, 3, 4)
    assert split.name(1).endswith("b.png")
