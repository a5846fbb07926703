"""Boxes: both layouts say the same, what cannot be used is one line, changes can be repeated."""

import json

import pytest
import torch

from boxed import CLASSES, PARTS, shapes, voc_text, write_coco, write_voc
from mgd.data.boxes import BoxDataset, as_lists, checked_box, random_box_changes
from mgd.data.boxes_by_place import load_boxes
from mgd.errors import InputError


@pytest.fixture
def voc(tmp_path):
    return write_voc(tmp_path / "voc")


@pytest.fixture
def coco(tmp_path):
    return write_coco(tmp_path / "coco")


def test_both_layouts_hold_the_same_boxes(voc, coco):
    by_voc, by_coco = load_boxes(voc), load_boxes(coco)
    assert by_voc.classes == by_coco.classes == list(CLASSES)
    for part, count in (("train", 6), ("valid", 4), ("test", 3)):
        one, other = getattr(by_voc, part), getattr(by_coco, part)
        assert len(one) == len(other) == count
        for index in range(count):
            assert torch.equal(one.image(index), other.image(index))
            for name, value in one.target(index).items():
                assert torch.equal(value, other.target(index)[name])


def test_the_boxes_are_those_of_the_shapes(voc):
    split = load_boxes(voc).train
    _, found = shapes(0)
    target = split.target(0)
    assert target["boxes"].tolist() == [list(map(float, corners)) for _, *corners in found]
    assert target["labels"].tolist() == [CLASSES.index(kind) + 1 for kind, *_ in found]
    left, top, right, bottom = (int(edge) for edge in target["boxes"][0])
    inside = split.image(0)[:, top:bottom, left:right].float()
    assert inside.mean() < 40 or inside.mean() > 220  # a shape, and not the grey ground


def test_an_image_without_boxes_is_there(voc):
    target = load_boxes(voc).train.target(PARTS["train"] - 1)
    assert target["boxes"].shape == (0, 4)
    assert target["labels"].shape == target["crowd"].shape == (0,)


def test_a_test_part_is_not_needed(tmp_path):
    parts = {"train": 2, "val": 1}
    assert load_boxes(write_voc(tmp_path / "voc", parts)).test is None
    assert load_boxes(write_coco(tmp_path / "coco", parts)).test is None


def test_difficult_objects_and_crowds_are_marked(voc, coco):
    path = voc / "Annotations" / "shape000.xml"
    path.write_text(path.read_text().replace("<difficult>0", "<difficult>1", 1))
    assert load_boxes(voc).train.target(0)["crowd"].tolist() == [True, False]
    change(coco, "train", lambda content: content["annotations"][0].update(iscrowd=1))
    assert load_boxes(coco).train.target(0)["crowd"].tolist() == [True, False]


def change(root, part, edit):
    path = root / "annotations" / f"instances_{part}2017.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("box", "said"),
    [
        (("disc", 10, 10, 80, 20), r"object 2: the box \(10, 10, 80, 20\) lies outside its image"),
        (("disc", -5, 10, 20, 20), "object 2: the box .* lies outside its image of 64 x 48 px"),
        (("disc", 10, 10, 10, 20), "object 2: the box .* has no area"),
        (("disc", 20, 10, 10, 20), "object 2: the box .* has no area"),
    ],
)
def test_a_box_of_voc_that_cannot_be_used_is_named(voc, box, said):
    path = voc / "Annotations" / "shape001.xml"
    path.write_text(voc_text("shape001.jpg", [("disc", 1, 1, 9, 9), box]))
    with pytest.raises(InputError, match=f"'{path}' {said}"):
        load_boxes(voc)


def test_a_class_that_no_training_image_has_is_named(voc):
    path = voc / "Annotations" / "shape006.xml"  # of val
    path.write_text(voc_text("shape006.jpg", [("star", 1, 1, 9, 9)]))
    with pytest.raises(InputError, match=f"'{path}' object 1: the class 'star' is unknown"):
        load_boxes(voc)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda root: (root / "JPEGImages/shape001.jpg").unlink(), "annotation without an image"),
        (lambda root: (root / "Annotations/shape001.xml").unlink(), "shape001.xml' is missing"),
        (lambda root: (root / "Annotations/shape001.xml").write_text("<a>"), "read as XML"),
        (lambda root: (root / "ImageSets/Main/val.txt").unlink(), "val.txt' cannot be read"),
        (
            lambda root: (root / "ImageSets/Main/val.txt").write_text("shape006\n\nshape006\n"),
            "val.txt' line 3: 'shape006' is there in line 1 already",
        ),
        (
            lambda root: (root / "Annotations/shape001.xml").write_text(
                voc_text("shape001.jpg", [("disc", 1, 1, 9, 9)]).replace(">9<", ">nine<")
            ),
            "shape001.xml' object 1: 'bndbox/xmax' is 'nine'",
        ),
    ],
    ids=["image", "annotation", "xml", "list", "twice", "number"],
)
def test_a_fault_of_voc_is_one_line(voc, spoil, said):
    spoil(voc)
    with pytest.raises(InputError) as caught:
        load_boxes(voc)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda c: c["annotations"][2].update(id=1), "annotations number 3 has the id 1 of an"),
        (lambda c: c["images"][1].update(id=0), "images number 2 has the id 0 of an earlier one"),
        (lambda c: c["categories"][1].update(id=10), "categories number 2 has the id 10"),
        (lambda c: c["annotations"][0].update(image_id=99), "annotation 1: it is of image 99"),
        (lambda c: c["annotations"][0].update(category_id=5), "annotation 1: the category 5 is"),
        (lambda c: c["annotations"][1].update(bbox=[1, 1, 0, 5]), "annotation 2: the box .* no ar"),
        (lambda c: c["annotations"][1].update(bbox=[60, 1, 9, 5]), "annotation 2: .* outside its"),
        (lambda c: c["annotations"][1].update(bbox=[60, 1]), "annotation 2: 'bbox' is"),
        (lambda c: c["annotations"][1].update(bbox=["a", 1, 2, 3]), "annotation 2: 'bbox' is 'a'"),
        (lambda c: c["images"][1].update(file_name="no.jpg"), "image 2: there is no file 'no.jpg'"),
        (lambda c: c["images"][1].update(width=None), "image 2: 'width' is None"),
        (lambda c: c.update(images=3), "has no list 'images'"),
    ],
)
def test_a_fault_of_coco_is_one_line_with_file_and_number(coco, edit, said):
    path = change(coco, "train", edit)
    with pytest.raises(InputError, match=said) as caught:
        load_boxes(coco)
    assert str(caught.value).startswith(f"'{path}' ")
    assert "\n" not in str(caught.value)


def test_a_folder_without_boxes_says_what_is_needed(tmp_path):
    for place in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(InputError, match=r"\(COCO\), or with Annotations"):
            load_boxes(place)


def test_a_part_without_any_box_is_refused(voc):
    (voc / "ImageSets/Main/val.txt").write_text("shape005\n")  # the one without boxes
    with pytest.raises(InputError, match=r"no image in the part `valid` .* has a box"):
        load_boxes(voc)


def test_an_image_of_another_size_than_its_boxes_is_named(voc):
    path = voc / "Annotations" / "shape000.xml"
    path.write_text(voc_text("shape000.jpg", [("disc", 1, 1, 9, 9)], size=(640, 480)))
    with pytest.raises(InputError, match=r"shape000.jpg' has 64 x 48 px, .* for 640 x 480"):
        load_boxes(voc).train.image(0)


def test_a_box_over_the_edge_by_rounding_is_cut():
    box = checked_box(1, (-0.5, 3, 64.9, 48.4), (64, 48), "here")
    assert box.corners == (0, 3, 64, 48)


def test_changes_are_a_function_of_seed_epoch_and_image(voc):
    split = load_boxes(voc).train
    one, other = (BoxDataset(split, random_box_changes(), seed=3) for _ in range(2))
    torch.rand(5)  # whatever else was drawn
    for key in ((0, 0), (1, 0), (1, 3)):
        image, target = one[key]
        again, target_again = other[key]
        assert torch.equal(image, again)
        assert all(torch.equal(target[name], target_again[name]) for name in target)
    looks = [BoxDataset(split, random_box_changes(), seed=3)[(epoch, 0)][0] for epoch in range(6)]
    assert any(look.shape != looks[0].shape or not torch.equal(look, looks[0]) for look in looks)


def test_boxes_follow_the_changes(voc):
    """A shape is much brighter or darker than the ground, so what a box holds tells."""
    dataset = BoxDataset(load_boxes(voc).train, random_box_changes(), seed=0)
    seen = 0
    for epoch in range(12):
        image, target = dataset[(epoch, 1)]
        height, width = image.shape[-2:]
        for corners, label in zip(target["boxes"], target["labels"], strict=True):
            left, top, right, bottom = corners.round().int().tolist()
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height
            inside = image[:, top:bottom, left:right].float().mean()
            assert inside > 200 if CLASSES[label - 1] == "disc" else inside < 60
            seen += 1
    assert seen > 6


def test_changes_keep_an_image_without_boxes(voc):
    dataset = BoxDataset(load_boxes(voc).train, random_box_changes(), seed=0)
    image, target = dataset[(0, PARTS["train"] - 1)]
    assert image.dtype == torch.uint8
    assert target["boxes"].shape == (0, 4)


def test_a_batch_is_lists(voc):
    dataset = BoxDataset(load_boxes(voc).train, None, seed=0)
    images, targets = as_lists([dataset[(0, 0)], dataset[(0, 1)]])
    assert [image.shape for image in images] == [(3, 48, 64)] * 2
    assert [len(target["labels"]) for target in targets] == [2, 2]
