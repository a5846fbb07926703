"""Networks by name, and their weights in files, together with their classes and their view."""

from mgd.models.creation import (
    NAMES,
    OWN,
    PRETRAINED,
    TORCHVISION,
    create_model,
    is_code,
    published_classes,
)
from mgd.models.detector_names import is_detector
from mgd.models.detectors import create_detector
from mgd.models.exported import FORMATS, Format, is_exported, to_onnx, to_pt2
from mgd.models.huggingface import tells_view
from mgd.models.int8 import quantise_onnx
from mgd.models.loading import (
    arch_of,
    assume_metadata,
    build_for,
    create_for,
    head,
    load_network,
    read_metadata,
)
from mgd.models.metadata import Metadata

__all__ = [
    "FORMATS",
    "NAMES",
    "OWN",
    "PRETRAINED",
    "TORCHVISION",
    "Format",
    "Metadata",
    "arch_of",
    "assume_metadata",
    "build_for",
    "create_detector",
    "create_for",
    "create_model",
    "head",
    "is_code",
    "is_detector",
    "is_exported",
    "load_network",
    "published_classes",
    "quantise_onnx",
    "read_metadata",
    "tells_view",
    "to_onnx",
    "to_pt2",
]
