"""The published distillation points of the built-in networks.

Each table gives, for a stride, the pre-activation that the paper distils at this stride. A teacher
and a student are distilled at the strides that are in the tables of both. For the paper's four
pairs of networks these are its points.

The authors' code lists one more point for MobileNet-V2 and ShuffleNet-V2, the first, and ignores
it. It is left out here. The deepest point has weight 1 and each point before it half of the next,
so this changes no weight.
"""

import re

_RESNET_BLOCKS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}

Taps = dict[int, str]
"""Stride -> path of the tap."""

TAPS: dict[str, Taps] = {
    **{
        name: {4 << i: f"layer{i + 1}.{n - 1}.relu" for i, n in enumerate(blocks)}
        for name, blocks in _RESNET_BLOCKS.items()
    },
    "mobilenet_v1": {
        4: "blocks.2.pointwise.2",
        8: "blocks.4.pointwise.2",
        16: "blocks.10.pointwise.2",
        32: "blocks.12.pointwise.2",
    },
    # The depthwise convolutions of blocks 7, 11 and 17.
    "mobilenet_v2_eccv": {
        8: "features.7.conv.1.2",
        16: "features.11.conv.1.2",
        32: "features.17.conv.1.2",
    },
    # In the standard network block 7 is at stride 16. Block 6 is at 8, also with 192 channels.
    "mobilenet_v2": {
        8: "features.6.conv.1.2",
        16: "features.11.conv.1.2",
        32: "features.17.conv.1.2",
    },
    "shufflenet_v2": {8: "stage2", 16: "stage3", 32: "stage4"},
    "shufflenet_v2_x0_5": {8: "stage2", 16: "stage3", 32: "stage4"},
}


def taps_of(name: str) -> Taps:
    """Returns the taps of a built-in network by stride; empty for any other network."""
    if cifar := re.fullmatch(r"cifar_resnet(\d+)(_x\d+_\d+)?", name):
        num_blocks = (int(cifar[1]) - 2) // 6
        return {1 << i: f"layer{i + 1}.{num_blocks - 1}.relu" for i in range(3)}
    library, _, rest = name.rpartition(":")
    is_same = library == "torchvision" and rest.startswith(("resnet", "mobilenet_v2"))
    return TAPS.get(rest if is_same else name, {})


def known_points(teacher: str, student: str) -> list[tuple[str, str]]:
    """Returns the published points of two built-in networks, for `mgd.Distiller(points=...)`.

    Returns:
        Pairs (teacher path, student path) from shallow to deep. Empty if the tables have fewer
        than two strides in common, as for a network for 32 px images and one for 224 px images.
        Equal strides are then at unlike depths; use `mgd.discover_points` instead.

    Example:
        >>> from mgd.models.pairs import known_points
        >>> known_points("resnet50", "mobilenet_v1")[0]
        ('layer1.2.relu', 'blocks.2.pointwise.2')
    """
    teachers, students = taps_of(teacher), taps_of(student)
    shared = sorted(teachers.keys() & students.keys())
    return [(teachers[s], students[s]) for s in shared] if len(shared) > 1 else []
