"""What annotations of boxes may have wrong: each fault is one line, and nothing is taken silently.

The faults of single boxes are in test_boxes.py.
"""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from boxed import CLASSES, voc_text, write_coco, write_voc
from data.test_boxes import change
from mgd.data.boxes_by_place import load_boxes
from mgd.errors import InputError

PARTS = {"train": 4, "val": 2}
INFINITE = "1" + 400 * "0"
"""A whole number that no float holds; JSON has no end of digits."""


@pytest.fixture
def voc(tmp_path):
    return write_voc(tmp_path / "voc", PARTS)


@pytest.fixture
def coco(tmp_path):
    return write_coco(tmp_path / "coco", PARTS)


def refused(root):
    """Returns the one line that a data set gets."""
    with pytest.raises(InputError) as caught:
        load_boxes(root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def replace_in(path, old, new):
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def renamed(content, **values):
    content["categories"][1].update(values)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda c: c["images"][0].update(width=0), "image 1: the size of the image is 0 x 48 px"),
        (lambda c: c["images"][1].update(height=4.5), "image 2: the size of the image is 64 x 4.5"),
        (lambda c: c["images"][0].update(width=float("nan")), "image 1: the size .* nan x 48 px"),
        (lambda c: c["images"][0].update(width=int(INFINITE)), "image 1: the size .* inf x 48 px"),
        (lambda c: c["images"][0].update(id=[1]), "images number 1 has no id"),
        (lambda c: c["annotations"][0].update(image_id=[1]), r"annotation 1: it is of image \[1\]"),
        (lambda c: c["annotations"][0].update(image_id="0"), "annotation 1: it is of image '0', "),
        (lambda c: c["annotations"][0].update(category_id={}), "annotation 1: the category {} is "),
        (
            lambda c: c["annotations"][1].update(bbox=[1, int(INFINITE), 2, 2]),
            "annotation 2: .* in",
        ),
        (lambda c: c["annotations"][1].update(iscrowd="0"), "annotation 2: 'iscrowd' is '0', and "),
        (lambda c: c.pop("categories"), "has no 'categories', which name the classes"),
        (lambda c: renamed(c, name=None), "categories number 2 has no 'name'"),
        (lambda c: renamed(c, name="disc"), "categories number 2 has the name 'disc' of an earli"),
    ],
)
def test_a_fault_of_coco_names_file_and_number(coco, edit, said):
    path = change(coco, "train", edit)
    with pytest.raises(InputError, match=said) as caught:
        load_boxes(coco)
    assert str(caught.value).startswith(f"'{path}' ")
    assert "\n" not in str(caught.value)


def test_a_category_of_valid_alone_is_named_by_its_name(coco):
    def edit(content):
        content["categories"].append({"id": 30, "name": "star"})
        content["annotations"][1]["category_id"] = 30

    path = change(coco, "val", edit)
    assert refused(coco) == (
        f"'{path}' annotation 2: the class 'star' is unknown, since the training part does not "
        "name it; known are disc, square"
    )


def test_categories_are_known_by_their_names(coco):
    """The ids of another part may be others, and of another kind."""

    def edit(content):
        for entry in content["categories"]:
            entry["id"] = entry["name"].upper()
        for entry in content["annotations"]:
            entry["category_id"] = CLASSES[entry["category_id"] // 10 - 1].upper()

    labels = load_boxes(coco).valid.target(0)["labels"].tolist()
    change(coco, "val", edit)
    assert load_boxes(coco).valid.target(0)["labels"].tolist() == labels


def test_the_boxes_are_taken_and_not_the_captions(coco):
    """COCO's own folder has them side by side, and the captions are the first by name."""
    before = load_boxes(coco).train.target(0)["boxes"]
    folder = coco / "annotations"
    for name in ("captions_train2017.json", "person_keypoints_train2017.json"):
        (folder / name).write_text(json.dumps({"images": [], "annotations": []}))
    (folder / "image_info_test2017.json").write_text(json.dumps({"images": [{"id": 1}]}))
    found = load_boxes(coco)
    assert torch.equal(found.train.target(0)["boxes"], before)
    assert found.test is None


def test_two_files_of_a_part_are_named(coco):
    folder = coco / "annotations"
    shutil.copy(folder / "instances_train2017.json", folder / "instances_train2014.json")
    said = refused(coco)
    assert "has 2 files of the part `train`: annotations/instances_train2014.json, " in said
    assert said.endswith("keep one of them")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_json_of_other_encodings_is_read(coco, encoding):
    path = coco / "annotations" / "instances_train2017.json"
    path.write_text(path.read_text(), encoding=encoding)
    assert len(load_boxes(coco).train) == PARTS["train"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("<width>64", "<width>0", ": the size of the image is 0 x 48 px, and needed are whole"),
        ("<width>64", "<width>nan", ": the size of the image is nan x 48 px"),
        ("<height>48", "<height>inf", ": the size of the image is 64 x inf px"),
        ("size>", "sizes>", ": 'size/width' is None, and needed is a number of pixels"),
        ("<name>disc<", "<name> <", " object 1: it has no 'name', which says its class"),
        ("<xmin>", "<xmin>nan</xmin><xmin>", " object 1: the box (nan, "),
        ("bndbox>", "box>", " object 1: 'bndbox/xmin' is None, and needed is a number"),
    ],
    ids=str,
)
def test_a_fault_of_voc_names_its_file(voc, old, new, said):
    path = voc / "Annotations" / "shape000.xml"
    replace_in(path, old, new)
    assert refused(voc).startswith(f"'{path}'{said}")


def test_blanks_around_a_name_make_no_class(voc):
    replace_in(voc / "Annotations" / "shape000.xml", "<name>disc<", "<name>\n disc <")
    assert load_boxes(voc).classes == list(CLASSES)


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_list_without_a_name_is_named(voc, part):
    path = voc / "ImageSets" / "Main" / f"{part}.txt"
    path.write_text("\n\n")
    assert refused(voc) == f"'{path}' lists no image; write the name of one in each line"


def test_training_images_without_any_object_are_told(voc):
    path = voc / "ImageSets" / "Main" / "train.txt"
    path.write_text("shape003\n")  # the one without boxes
    assert refused(voc).startswith(f"no image in '{path}' has an object; ")


def test_the_list_names_the_image_where_the_annotation_names_another(voc):
    """As after files were numbered anew."""
    replace_in(voc / "Annotations" / "shape000.xml", "shape000.jpg", "shape001.jpg")
    assert load_boxes(voc).train.name(0) == str(voc / "JPEGImages" / "shape000.jpg")
    (voc / "JPEGImages" / "shape000.jpg").rename(voc / "JPEGImages" / "other.jpg")
    replace_in(voc / "Annotations" / "shape000.xml", "shape001.jpg", "C:/photos/other.jpg")
    assert load_boxes(voc).train.name(0) == str(voc / "JPEGImages" / "other.jpg")


def test_objects_that_are_not_used_are_no_boxes(voc, coco):
    """A part of crowds and difficult objects alone trains nothing."""
    for number in range(PARTS["train"] - 1):
        path = voc / "Annotations" / f"shape{number:03}.xml"
        replace_in(path, "<difficult>0", "<difficult>1")
    assert refused(voc).startswith(f"no image in the part `train` of '{voc}' has a box; ")
    change(coco, "val", lambda c: [each.update(iscrowd=1) for each in c["annotations"]])
    assert refused(coco).startswith(f"no image in the part `valid` of '{coco}' has a box; ")


def test_an_image_twice_in_a_part_is_named(coco):
    change(coco, "train", lambda c: c["images"][2].update(file_name="../train2017/0.jpg"))
    path = coco / "train2017" / "0.jpg"
    assert refused(coco).startswith(f"'{path}' is image 1 and image 3 of the part `train`; ")


def test_an_image_in_two_parts_is_told(voc, caplog):
    path = voc / "ImageSets" / "Main" / "val.txt"
    path.write_text("shape004\nshape001\n")
    load_boxes(voc)
    (said,) = caplog.messages
    image = voc / "JPEGImages" / "shape001.jpg"
    assert said.startswith(
        f"the parts `train` and `valid` share 1 of their images, such as '{image}'"
    )


def test_a_file_is_no_folder(tmp_path):
    path = tmp_path / "cells.zip"
    path.write_bytes(b"")
    assert refused(path).startswith(f"data folder '{path}' is a file; give a folder with ")


def turned(path, orientation):
    """Marks a file as turned; the pixels stay as they are."""
    image = Image.open(path)
    image.load()
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(path, exif=exif, quality=95)


def test_an_image_that_exif_turns_must_have_its_boxes_upright(voc):
    path = voc / "JPEGImages" / "shape000.jpg"
    turned(path, 6)
    with pytest.raises(InputError, match="has 48 x 64 px, as its EXIF orientation turns it, but"):
        load_boxes(voc).train.image(0)
    annotation = voc / "Annotations" / "shape000.xml"
    annotation.write_text(voc_text("shape000.jpg", [("disc", 1, 1, 9, 9)], size=(48, 64)))
    assert load_boxes(voc).train.image(0).shape == (3, 64, 48)


@pytest.mark.parametrize("deep", [False, True])
def test_grey_images_become_colours(voc, deep):
    path = voc / "JPEGImages" / "shape000.jpg"
    grey = np.asarray(Image.open(path).convert("L"))
    path.unlink()
    values = grey.astype(np.uint16) * 257 if deep else grey
    Image.fromarray(values).save(path.with_suffix(".png"))
    image = load_boxes(voc).train.image(0)
    assert torch.equal(image, torch.from_numpy(grey.copy()).expand(3, -1, -1))


def test_a_damaged_image_is_named(coco):
    path = coco / "train2017" / "0.jpg"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match=f"cannot read image '{path}' "):
        load_boxes(coco).train.image(0)
