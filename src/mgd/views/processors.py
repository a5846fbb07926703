"""Image processors of Hugging Face: their settings, as values of a view."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mgd.errors import InputError, import_extra
from mgd.views.proof import Show

# Pillow's numbers of its filters.
_FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
# From this size on, ConvNeXt's processor squashes the image instead of cutting its ends off.
_CONVNEXT_SQUASHES = 384


def load_processor(name: str) -> Any:
    """Loads the processor that was published with a network, from the hub or a folder.

    Raises:
        InputError: If transformers is missing, or the processor cannot be loaded.
    """
    transformers = import_extra("transformers", "hf", f"'hf:{name}'")
    try:
        return transformers.AutoImageProcessor.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # the hub, the file and the settings in it may all be at fault
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"the image processor of 'hf:{name}' cannot be loaded ({reason})"
        ) from error


def shown_by(processor: Any) -> Show:
    """Returns what the processor shows of one image."""

    def show(image: Tensor) -> Tensor:
        shown: Tensor = processor(images=[image], return_tensors="pt")["pixel_values"][0]
        return shown

    return show


def processor_plain(processor: Any) -> dict[str, Any]:
    """Returns the values of the view that the settings of a processor describe.

    Processors differ: what else one does is not read here, but found by `proof.prove`.

    Raises:
        InputError: If it makes no square images, or has settings of another kind.
    """
    try:
        return {**_geometry(processor), **_normalisation(processor)}
    except InputError:
        raise
    except Exception as error:  # a processor's settings are read from a file, and not checked
        kind = type(error).__name__
        raise _refusal(processor, f"has settings of an unknown kind ({kind}: {error})") from error


def _geometry(processor: Any) -> dict[str, Any]:
    resized, keeps_proportions = _side(processor, "size")
    if not getattr(processor, "do_resize", False):
        raise _refusal(processor, "does not resize images to one size")
    crop_pct = getattr(processor, "crop_pct", None)
    if getattr(processor, "do_center_crop", False):
        size, _ = _side(processor, "crop_size")
        crop_pct = crop_pct or size / resized
    elif keeps_proportions and crop_pct:
        size, is_large = resized, resized >= _CONVNEXT_SQUASHES
        crop_pct, keeps_proportions = (1.0 if is_large else crop_pct), not is_large
    elif keeps_proportions:
        raise _refusal(processor, "keeps the proportions of an image and does not crop it")
    else:
        size, crop_pct = resized, 1.0
    # Without a filter, a processor takes its class's.
    resample = getattr(processor, "resample", None)
    return {
        "size": size,
        "crop_pct": crop_pct,
        "crop": "center" if keeps_proportions else "squash",
        "interpolation": "bilinear" if resample is None else _FILTERS[resample],
    }


def _side(processor: Any, name: str) -> tuple[int, bool]:
    """Returns a side in pixels, and whether it is the shorter one of an image in proportion."""
    value = getattr(processor, name, None)
    if isinstance(value, int):
        value = {"height": value, "width": value}
    given = (value if isinstance(value, Mapping) else vars(value)) if value else {}
    sides = {key: side for key, side in given.items() if side is not None}
    shorter = sides.get("shortest_edge")
    height, width = sides.get("height"), sides.get("width")
    if isinstance(shorter, int) and not sides.get("longest_edge"):
        return shorter, True
    if not isinstance(height, int) or height != width:
        raise _refusal(processor, f"has no square `{name}` ({sides})")
    return height, False


def _normalisation(processor: Any) -> dict[str, Any]:
    """Expresses (pixel * factor - offset - mean) / std by one mean and std, where white is 1."""
    white = 255 * processor.rescale_factor if getattr(processor, "do_rescale", False) else 255.0
    offset = 1.0 if getattr(processor, "rescale_offset", False) else 0.0
    mean, std = [0.0] * 3, [1.0] * 3
    if getattr(processor, "do_normalize", False):
        mean, std = (
            [value] * 3 if isinstance(value, int | float) else list(value)
            for value in (processor.image_mean, processor.image_std)
        )
    is_flipped = getattr(processor, "do_flip_channel_order", False)
    return {
        "mean": [(value + offset) / white for value in mean],
        "std": [value / white for value in std],
        "colour": "BGR" if is_flipped else "RGB",
    }


def _refusal(processor: Any, reason: str) -> InputError:
    return InputError(
        f"the image processor {type(processor).__name__} {reason}; give mgd.View(mean, std, size)"
    )
