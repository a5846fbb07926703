"""Exporting a detector: its weights, or an ONNX program from an image to its boxes."""

import copy
import io
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.onnx.operators import shape_as_tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from mgd.engine.detection.detectors import Detector, load_detector
from mgd.engine.detection.precision import Found
from mgd.engine.export import write_network
from mgd.errors import InputError, import_extra
from mgd.models import Format, Metadata
from mgd.models.exported import onnx_session, reason_of
from mgd.models.metadata import KEY
from mgd.runfolder import write_whole

_OUTPUTS = ("boxes", "labels", "scores")
_OPSET = 17
"""Of 2022; half of a pixel in RoiAlign needs 16."""
_TEXTS = {
    "image": "float32 (3, height, width): red, green and blue from 0 to 1, of any size. The "
    "program resizes and normalises it.",
    "boxes": "float32 (found, 4): left, top, right and bottom edge, in pixels of `image`.",
    "labels": "int64 (found,): from 1 on; label 1 is the first of the classes in the metadata.",
    "scores": "float32 (found,): from 0 to 1.",
}
"""What each input and output is; kept in the file."""
_MISSING = "an ONNX file of a detector"

Answer = Callable[[Tensor], Found]
"""Finds what is on an image (3, H, W) from 0 to 1."""


def check_format(name: str, kind: Format, int8: bool) -> None:
    """Checks that a detector can be written in a format.

    Args:
        name: Of the detector.
        kind: The format.
        int8: Whether it is to be quantised.

    Raises:
        InputError: If it cannot.
    """
    if int8:
        raise InputError(
            f"a detector ({name}) cannot be written in int8, which is for classifiers alone; leave "
            "out --int8"
        )
    if kind == "pt2":
        raise InputError(
            f"a detector ({name}) cannot be written as pt2: the number of its boxes depends on the "
            "image, which torch.export refuses in torchvision's code; give --format onnx, "
            "safetensors or pth"
        )


def write_detector(detector: Detector, path: Path, kind: Format) -> list[Path]:
    """Writes a detector, and its metadata beside it where the format cannot hold them.

    Args:
        detector: On the CPU.
        path: The file.
        kind: Its format; see `check_format`.

    Returns:
        The files.

    Raises:
        InputError: If a package is missing, or torch cannot write this network.
        RunError: If it cannot be written.
    """
    if kind != "onnx":
        return write_network(detector.network, detector.metadata, path, kind)
    write_whole(path, partial(_to_onnx, detector.network, detector.size, detector.metadata))
    return [path]


@torch.no_grad()
def _to_onnx(network: nn.Module, size: int, metadata: Metadata, file: BinaryIO) -> None:
    onnx = import_extra("onnx", "onnx", _MISSING)
    content: Any = io.BytesIO()  # which torch takes as well, whatever it declares
    axes = {name: {0: "found"} for name in _OUTPUTS}
    with warnings.catch_warnings():
        # The exporter by TorchScript is deprecated, but torch.export, which the other one is made
        # of, refuses a number of boxes that depends on the image.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                _Program(network),
                (torch.rand(3, max(1, size * 3 // 4), size),),
                content,
                dynamo=False,
                opset_version=_OPSET,
                input_names=["image"],
                output_names=[*_OUTPUTS],
                dynamic_axes={"image": {1: "height", 2: "width"}, **axes},
            )
        except Exception as error:  # what it cannot trace can end in nearly anything
            raise InputError(
                f"torch {torch.__version__} cannot write {metadata.arch} as onnx "
                f"({reason_of(error)}); give --format safetensors or pth"
            ) from error
    model = onnx.load_from_string(content.getvalue())
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, metadata.to_json()
    for value in (*model.graph.input, *model.graph.output):
        value.doc_string = _TEXTS[value.name]
    file.write(model.SerializeToString())


class _Program(nn.Module):
    """A detector of one image, which returns tensors.

    Args:
        network: Of torchvision; it is copied.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = copy.deepcopy(network)
        self.network.transform = _Transform.like(network.transform)
        self.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        (found,) = self.network([image])
        return tuple(found[name] for name in _OUTPUTS)


class _Transform(GeneralizedRCNNTransform):
    """Resizes and normalises an image, to the same pixel when traced as when called.

    torchvision computes the size in float64 when it is called, and in float32 when it is traced.
    One in ten sizes of images would be resized to one pixel more or less.
    """

    @classmethod
    def like(cls, given: Any) -> "_Transform":
        """Makes one with the settings of torchvision's."""
        return cls(
            given.min_size,
            given.max_size,
            given.image_mean,
            given.image_std,
            given.size_divisible,
            given.fixed_size,
        )

    def resize(self, image: Tensor, target: Any = None) -> tuple[Tensor, Any]:
        """Resizes the longer side of an image; both where the size is fixed."""
        if self.fixed_size is not None:
            resized: tuple[Tensor, Any] = super().resize(image, target)
            return resized
        sides = shape_as_tensor(image)[-2:].double()
        # A number through a tensor would be 1 / tensor times the number, which rounds twice; and of
        # tensors without an axis the exporter makes float32.
        least, most = (sides.new_tensor([each]) for each in (self.min_size[-1], self.max_size))
        scale = torch.minimum(least / sides.amin(0, True), most / sides.amax(0, True))
        height, width = (sides * scale).floor().long()
        size: Any = (height, width)  # tensors, which the tracer follows
        shown = functional.interpolate(image[None], size, mode="bilinear", align_corners=False)
        return shown[0], target


def read_answer(path: Path) -> Answer:
    """Reads a file that `write_detector` wrote, as its reader would.

    Raises:
        InputError: If it cannot be read.
    """
    if path.suffix != ".onnx":
        network = load_detector(path).network.eval()
        return lambda image: network([image])[0]
    import_extra("onnxruntime", "onnx", _MISSING)
    session = onnx_session(path)

    def answer(image: Tensor) -> Found:
        try:
            found = session.run([*_OUTPUTS], {"image": image.numpy()})
        except Exception as error:  # onnxruntime's own errors have no common base class
            raise InputError(
                f"'{path}' cannot run on an image of {tuple(image.shape)} ({reason_of(error)})"
            ) from error
        return dict(zip(_OUTPUTS, map(torch.from_numpy, found), strict=True))

    return answer
