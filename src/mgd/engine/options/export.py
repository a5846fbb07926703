"""Options of `mgd export` that say how a file is proven, and quantised."""

from dataclasses import dataclass

from mgd.engine.options.option import Group, option


@dataclass(frozen=True, kw_only=True)
class ExportConfig(Group):
    """Proof and quantisation of an exported file."""

    data: str = option(
        "",
        "images to prove the file on, and for --int8: folder with `train` and `valid` inside, or "
        "digits (default: the data of the run)",
        shown="DIR",
    )
    images: int = option(
        200,
        "images of `valid` on which the written file is compared with the network in PyTorch",
        least=1,
    )
    tolerance: float = option(
        1e-4,
        "largest difference of the logits up to which the file is kept, as a share of the largest "
        "logit; of a detector, of scores, and of corners as a share of the longer side",
        least=0,
    )
    no_proof: bool = option(False, "keep the file without running it")
    int8: bool = option(
        False,
        "onnx alone: weights and activations of 8 bits, whose ranges are taken from training "
        "images; the float32 file is measured beside it",
    )
    calibration_images: int = option(
        256, "training images from which --int8 takes the ranges", least=1
    )
    least_agreement: float = option(
        0.95,
        "with --int8 instead of --tolerance: share of the images that must have the same answer "
        "as in PyTorch, 0 to 1",
        least=0,
        most=1,
    )
