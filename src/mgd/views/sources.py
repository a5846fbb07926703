"""Sources: the view that a network was published with, as the library that published it says."""

import re
from collections.abc import Mapping
from typing import Any

import torchvision

from mgd.errors import InputError

Plain = dict[str, Any]
"""Values of a `View`, by name."""

# Pillow's numbers of its filters, which Hugging Face's processors use.
_PILLOW_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}


def read_view(source: Any) -> Plain:
    """Returns the values of the view that a network was published with.

    Args:
        source: As in `View.from_network`.

    Raises:
        InputError: If nothing tells the view, or the package that does is missing.
    """
    if isinstance(source, str):
        return _of_name(source)
    # timm's networks have it as a dictionary, under both names.
    if isinstance(config := getattr(source, "pretrained_cfg", None), Mapping):
        return _of_timm(config)
    if hasattr(source, "image_mean"):
        return _of_processor(source)
    transforms = source.transforms() if hasattr(source, "transforms") else source
    if hasattr(transforms, "resize_size"):
        return _of_torchvision(transforms)
    raise InputError(
        f"a {type(source).__name__} does not tell how it sees an image; give the name of a "
        "published network, or mgd.View(mean, std, size)"
    )


def _of_name(name: str) -> Plain:
    library, colon, rest = name.partition(":")
    if library == "timm" and colon:
        return _of_timm(_timm_config(rest))
    if library == "hf" and colon:
        return _of_processor(_processor(rest))
    if re.match("cifar_", name):
        # Small images: nothing is cut off.
        return {"size": 32, "crop": "squash", "crop_pct": 1.0}
    known = torchvision.models.list_models(torchvision.models)
    if (rest or name) in known and library in ("torchvision", name):
        weights = torchvision.models.get_model_weights(rest or name)
        # Version 1, as the weights that `create_model` loads.
        return read_view(getattr(weights, "IMAGENET1K_V1", None) or next(iter(weights)))
    if colon:
        raise InputError(
            f"'{name}' does not tell how it sees an image; give mgd.View(mean, std, size)"
        )
    return {}  # our own networks see ImageNet as the paper did, which is the default


def _timm_config(name: str) -> Mapping[str, Any]:
    try:
        import timm
    except ImportError as error:
        raise InputError(
            f"'timm:{name}' needs the package timm; "
            "pip install 'matching-guided-distillation[timm]'"
        ) from error
    config = timm.get_pretrained_cfg(name)
    if config is None:
        raise InputError(f"timm has no network '{name}'")
    values: Mapping[str, Any] = config.to_dict()
    return values


def _of_timm(config: Mapping[str, Any]) -> Plain:
    channels, height, width = config.get("input_size") or (3, 224, 224)
    if height != width or channels != 3:
        raise InputError(
            f"{config.get('architecture')} takes {channels} x {height} x {width} images; only "
            "square images of three colours can be given by name: load them yourself"
        )
    plain = {"size": height, "crop": config.get("crop_mode")}
    plain |= {name: config.get(name) for name in ("mean", "std", "interpolation", "crop_pct")}
    return {name: value for name, value in plain.items() if value is not None}


def _of_torchvision(transforms: Any) -> Plain:
    [size], [resized] = transforms.crop_size, transforms.resize_size
    plain = {name: getattr(transforms, name) for name in ("mean", "std")}
    interpolation = transforms.interpolation.value
    return {**plain, "size": size, "crop_pct": size / resized, "interpolation": interpolation}


def _processor(name: str) -> Any:
    try:
        from transformers import AutoImageProcessor
    except ImportError as error:
        raise InputError(
            f"'hf:{name}' needs the package transformers; "
            "pip install 'matching-guided-distillation[hf]'"
        ) from error
    try:
        return AutoImageProcessor.from_pretrained(name)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"the image processor of 'hf:{name}' cannot be loaded ({reason})"
        ) from error


def _of_processor(processor: Any) -> Plain:
    """Reads the settings of Hugging Face's image processors, which differ a little from each other.

    `size` is {"height", "width"}, which squashes, or {"shortest_edge"}; `crop_size` comes after it.
    """
    size, crop_size = (_sides(getattr(processor, name, None)) for name in ("size", "crop_size"))
    is_cropped = bool(getattr(processor, "do_center_crop", False)) and bool(crop_size)
    side = (crop_size if is_cropped else size)[-1]
    resample = getattr(processor, "resample", None)
    return {
        "size": side,
        "crop_pct": side / size[-1] if is_cropped else 1.0,
        "crop": "center" if len(size) == 1 else "squash",
        "interpolation": "bilinear" if resample is None else _PILLOW_FILTERS[int(resample)],
        "mean": processor.image_mean,
        "std": processor.image_std,
    }


def _sides(size: Any) -> list[int]:
    """Returns [shorter side] or [height, width]; empty for None."""
    if not size:
        return []
    if isinstance(size, int):
        return [size]
    values = size if isinstance(size, Mapping) else vars(size)
    names = ("shortest_edge",) if values.get("shortest_edge") else ("height", "width")
    sides = [values.get(name) for name in names]
    if not all(sides) or len(set(sides)) > 1:
        raise InputError(f"the processor's size {dict(values)} is no square; give mgd.View instead")
    return [int(side) for side in sides if side]
