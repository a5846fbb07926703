"""The model card of a detector."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mgd.data.boxes import BoxSplits
from mgd.engine.card.facts import RunFacts, facts_of_any
from mgd.engine.card.markdown import block, code
from mgd.engine.card.sections import (
    card_of,
    classes_of,
    front,
    learned,
    number_of,
    spread,
    weights_of,
)
from mgd.engine.detection.detectors import Detectors
from mgd.engine.detection.precision import Precisions
from mgd.engine.options.config import RunConfig
from mgd.models.detector_names import parse_detector
from mgd.runfolder import RunResult, names

_ONNX = "student.onnx"


@dataclass(frozen=True, kw_only=True)
class DetectorFacts(RunFacts):
    """What a model card tells of a detector."""

    size: int
    """Pixels to which it resizes an image, as `resized` says."""
    train_boxes: int
    per_class: Mapping[str, tuple[float, ...]]
    """`map` of each class, NaN of one that is on no image: of the student, and of the teacher if
    it was measured. They are of the test images, or of the validation images if there are none."""

    @property
    def command(self) -> str:
        """The command that makes such a run."""
        return f"{super().command}-detector"

    @property
    def resized(self) -> str:
        """What of an image is resized to `size`."""
        return "both sides" if parse_detector(self.arch).head == "ssdlite" else "the longer side"


def detector_facts_of(
    folder: Path,
    config: RunConfig,
    splits: BoxSplits,
    detectors: Detectors,
    found: Mapping[str, Precisions],
    result: RunResult,
) -> DetectorFacts:
    """Returns what a card tells of a run of detectors that has ended.

    Args:
        folder: Of the run.
        config: Its options.
        splits: Its images.
        detectors: Its networks.
        found: What the student, and the teacher if it was measured, came to in the end.
        result: What the run came to.
    """
    student = detectors.student
    return DetectorFacts(
        **facts_of_any(folder, config, splits, student, detectors.teacher, result),
        base_model="",
        classes=student.classes,
        size=student.size,
        train_boxes=splits.train.num_boxes,
        per_class={name: each.per_class for name, each in found.items()},
    )


def detector_card_text(facts: DetectorFacts) -> str:
    """Returns the card of a run of detectors.

    Args:
        facts: What it tells. Names in it come from the user's folders; they stay names.
    """
    what = f"The network is {code(facts.arch)}, a detector of boxes of {number_of(facts)}."
    return card_of(
        facts,
        about=front(facts, "object-detection", ["mean_average_precision"]),
        what=f"{what} It {learned(facts)}",
        figures=_figures(facts),
        use=_use(facts),
        data=_data(facts),
        limits=_limits(facts),
    )


def _figures(facts: DetectorFacts) -> Iterator[str]:
    yield from weights_of(facts, "mAP")
    yield "\n".join(_table(facts))
    yield f"mAP of each class, on the {_part(facts)} images:"
    yield "\n".join(_classes(facts))
    yield " ".join(_explained(facts))


def _part(facts: DetectorFacts) -> str:
    return "validation" if facts.result.test_map is None else "test"


def _table(facts: DetectorFacts) -> Iterator[str]:
    result = facts.result
    numbers = {"validation": facts.valid_images, "test": facts.test_images}
    rows = [
        ("student", "validation", result.valid_map, result.valid_map_50),
        ("student", "test", result.test_map, result.test_map_50),
        ("teacher", _part(facts), result.teacher_map, result.teacher_map_50),
    ]
    yield "| network | images | how many | mAP | mAP@50 |"
    yield "| --- | --- | --- | --- | --- |"
    for network, part, map_, map_50 in rows:
        if map_ is not None and map_50 is not None:
            yield f"| {network} | {part} | {numbers[part]} | {map_:.1f} % | {map_50:.1f} % |"


def _classes(facts: DetectorFacts) -> Iterator[str]:
    yield f"| class | {' | '.join(facts.per_class)} |"
    yield f"| --- |{' --- |' * len(facts.per_class)}"
    for name, *values in zip(facts.classes, *facts.per_class.values(), strict=True):
        cells = ("on no image" if math.isnan(value) else f"{value:.1f} %" for value in values)
        title = code(name).replace("|", "\\|")  # which would end the cell, in code as well
        yield f"| {title} | {' | '.join(cells)} |"


def _explained(facts: DetectorFacts) -> Iterator[str]:
    yield (
        "mAP is the mean average precision as COCO defines it: over the classes, and over overlaps "
        "of 0.50 to 0.95; mAP@50 is that at an overlap of 0.50."
    )
    if not facts.keeps_last:
        yield "The validation images chose the epoch, so that the mAP on them is a little too good."
    if facts.result.test_map is not None:
        yield "The test images chose nothing."
    if facts.teacher and facts.result.teacher_map is None:
        yield "The mAP of the teacher was not measured."
    yield spread("`mgd report`")


def _use(facts: DetectorFacts) -> Iterator[str]:
    yield (
        "With the Python package `matching-guided-distillation` installed, in the folder of "
        f"`{names.STUDENT}`:"
    )
    yield block("python", with_mgd(facts))
    yield (
        f"This command writes `{_ONNX}`, a program from the image to the boxes that needs neither "
        "this package nor PyTorch. Where the images of the run are at hand, leave out "
        "`--no-proof`: the program is then compared with PyTorch on them."
    )
    yield block("bash", f"mgd export {names.STUDENT} -o {_ONNX} --no-proof")
    yield block("python", with_onnx(facts))
    yield (
        "**Preprocessing**: none. Both take red, green and blue from 0 to 1, of any size; the "
        f"detector resizes {facts.resized} to {facts.size} px and normalises the colours itself. "
        "The boxes are in pixels of the image that was given."
    )


def with_mgd(facts: DetectorFacts) -> str:
    """Returns lines that load a run's student and print what is on an image `photo.jpg`."""
    return (
        "import torch\n"
        "from mgd.models import create_detector\n"
        "from PIL import Image\n"
        "from safetensors.torch import load_file\n"
        "from torchvision.transforms.functional import pil_to_tensor\n"
        f"classes = {list(facts.classes)!r}\n"
        f"detector = create_detector({facts.arch!r}, num_classes={len(facts.classes)}, "
        f"size={facts.size})\n"
        f'detector.load_state_dict(load_file("{names.STUDENT}"))\n'
        'image = pil_to_tensor(Image.open("photo.jpg").convert("RGB")) / 255\n'
        "with torch.no_grad():\n"
        "    (found,) = detector.eval()([image])\n"
        'for box, label, score in zip(found["boxes"], found["labels"], found["scores"]):\n'
        "    print(classes[int(label) - 1], float(score), box.tolist())"
    )


def with_onnx(facts: DetectorFacts) -> str:
    """Returns lines that do the same with ONNX Runtime alone."""
    return (
        "import numpy\n"
        "import onnxruntime\n"
        "from PIL import Image\n"
        f"classes = {list(facts.classes)!r}\n"
        f'session = onnxruntime.InferenceSession("{_ONNX}")\n'
        'pixels = numpy.asarray(Image.open("photo.jpg").convert("RGB"), dtype="float32") / 255\n'
        'found = session.run(["boxes", "labels", "scores"], {"image": pixels.transpose(2, 0, 1)})\n'
        "for box, label, score in zip(*found):\n"
        "    print(classes[int(label) - 1], float(score), box.tolist())"
    )


def _data(facts: DetectorFacts) -> Iterator[str]:
    parts = [f"trained on {facts.train_images} images with {facts.train_boxes} boxes"]
    parts.append(f"{facts.valid_images} images to validate")
    parts += [f"{facts.test_images} to test"] if facts.test_images else []
    yield f"The data are {code(facts.data)}: {', '.join(parts)}."
    yield classes_of(facts, "the labels, from 1 on")


def _limits(facts: DetectorFacts) -> Iterator[str]:
    yield (
        f"It knows {number_of(facts)} and nothing else: it may find a box of one of them around "
        "whatever looks alike."
    )
    yield (
        "It was measured on images of this data set alone. Not measured: images from elsewhere, "
        "such as of another camera; which score is the best threshold for your use; resistance to "
        "attacks."
    )
