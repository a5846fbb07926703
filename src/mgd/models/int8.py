"""Quantised networks: an ONNX file with weights and activations of 8 bits."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mgd.errors import InputError, import_extra
from mgd.models.exported import reason_of


def quantise_onnx(source: Path, images: Iterable[Tensor], target: Path) -> None:
    """Writes an ONNX file in int8: static quantisation of convolutions and matrix products.

    The ranges of the activations are the smallest and the largest value on the images. Weights
    have a scale for each output channel. The operations stand between QuantizeLinear and
    DequantizeLinear (QDQ), which ONNX Runtime and others fuse to integer arithmetic. What the file
    says of the network stays in it.

    Args:
        source: A file that `to_onnx` wrote.
        images: As the network sees them, (B, C, size, size).
        target: The file to write.

    Raises:
        InputError: If a package is missing, or the network cannot be quantised.
    """
    import_extra("onnx", "onnx", "`int8`")
    quantization = import_extra("onnxruntime.quantization", "onnx", "`int8`")
    shapes = import_extra("onnxruntime.quantization.shape_inference", "onnx", "`int8`")
    with TemporaryDirectory() as folder, _without_advice():
        prepared = Path(folder, "prepared.onnx")
        try:
            shapes.quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            quantization.quantize_static(
                str(prepared),
                str(target),
                _Reader(images),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QInt8,
                weight_type=quantization.QuantType.QInt8,
            )
        except InputError:  # of an image
            raise
        except Exception as error:  # onnxruntime's own errors have no common base class
            raise InputError(
                f"ONNX Runtime cannot quantise this network ({reason_of(error)}); leave out `int8`"
            ) from error


class _Reader:
    """Gives onnxruntime one batch after the other; what its CalibrationDataReader does."""

    def __init__(self, images: Iterable[Tensor]):
        self._batches: Iterator[Tensor] = iter(images)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Returns the next batch by the name of the input; None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch.numpy()}


@contextmanager
def _without_advice() -> Iterator[None]:
    """Keeps onnxruntime from its advice to the root logger, which a user cannot follow here."""
    log = logging.getLogger()
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
