"""Data sets of shapes with boxes, in the layouts that runs of detectors read."""

import json

import torch
from torchvision.transforms.v2.functional import to_pil_image

CLASSES = ("disc", "square")
SIZE = (64, 48)
PARTS = {"train": 6, "val": 4, "test": 3}


def shapes(number, boxes=2):
    """Returns a grey image uint8 (3, 48, 64) with shapes, and (class, left, top, right, bottom)."""
    dice = torch.Generator().manual_seed(number)
    width, height = SIZE
    image = torch.randint(90, 130, (3, height, width), generator=dice, dtype=torch.uint8)
    found = []
    for place in range(boxes):
        side = int(torch.randint(12, 24, (), generator=dice))
        left = place * 32 + int(torch.randint(0, 32 - side, (), generator=dice))
        top = int(torch.randint(0, height - side, (), generator=dice))
        kind = CLASSES[(number + place) % 2]
        image[:, top : top + side, left : left + side] = 250 if kind == "disc" else 10
        found.append((kind, left, top, left + side, top + side))
    return image, found


def write_voc(root, parts=PARTS):
    """Writes the layout of Pascal VOC; the last training image has no box."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    number = 0
    for part, count in parts.items():
        names = []
        for place in range(count):
            is_empty = part == "train" and place == count - 1
            image, found = shapes(number, 0 if is_empty else 2)
            name = f"shape{number:03}"
            to_pil_image(image).save(root / "JPEGImages" / f"{name}.jpg", quality=95)
            (root / "Annotations" / f"{name}.xml").write_text(voc_text(f"{name}.jpg", found))
            names.append(name)
            number += 1
        (root / "ImageSets" / "Main" / f"{part}.txt").write_text("\n".join(names) + "\n")
    return root


def voc_text(name, found, size=SIZE):
    """Returns an annotation; VOC counts pixels from 1, and both corners belong to a box."""
    objects = "".join(
        f"<object><name>{kind}</name><difficult>0</difficult><bndbox><xmin>{left + 1}</xmin>"
        f"<ymin>{top + 1}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
        for kind, left, top, right, bottom in found
    )
    return (
        f"<annotation><filename>{name}</filename><size><width>{size[0]}</width>"
        f"<height>{size[1]}</height><depth>3</depth></size>{objects}</annotation>"
    )


def write_coco(root, parts=PARTS):
    """Writes the same images in the layout of COCO."""
    (root / "annotations").mkdir(parents=True)
    number = 0
    for part, count in parts.items():
        (root / f"{part}2017").mkdir()
        images, boxes = [], []
        for place in range(count):
            is_empty = part == "train" and place == count - 1
            image, found = shapes(number, 0 if is_empty else 2)
            to_pil_image(image).save(root / f"{part}2017" / f"{number}.jpg", quality=95)
            images.append(
                {"id": number, "file_name": f"{number}.jpg", "width": SIZE[0], "height": SIZE[1]}
            )
            for kind, left, top, right, bottom in found:
                boxes.append(
                    {
                        "id": len(boxes) + 1,
                        "image_id": number,
                        "category_id": 10 * (CLASSES.index(kind) + 1),
                        "bbox": [left, top, right - left, bottom - top],
                        "iscrowd": 0,
                    }
                )
            number += 1
        content = {
            "images": images,
            "annotations": boxes,
            "categories": [
                {"id": 10 * (place + 1), "name": name} for place, name in enumerate(CLASSES)
            ],
        }
        path = root / "annotations" / f"instances_{part}2017.json"
        path.write_text(json.dumps(content))
    return root
