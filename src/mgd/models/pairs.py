"""Where the built-in networks are tapped, as data.

Each table gives, per stride, the pre-activation tensor that the paper distils there; a pair of
networks is distilled at the strides that both tables have. For the paper's four pairs these are
its points. It lists, and ignores, one more for MobileNet-V2 and ShuffleNet-V2; since the deepest
point weighs 1 and each one before half as much, leaving the first out changes no weight.
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
"""Stride -> tap."""

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
    # In the standard network block 7 is at stride 16; block 6 has its 192 channels at stride 8.
    "mobilenet_v2": {
        8: "features.6.conv.1.2",
        16: "features.11.conv.1.2",
        32: "features.17.conv.1.2",
    },
    "shufflenet_v2": {8: "stage2", 16: "stage3", 32: "stage4"},
    "shufflenet_v2_x0_5": {8: "stage2", 16: "stage3", 32: "stage4"},
}


def taps_of(name: str) -> Taps:
    """Returns the taps of a built-in network by stride, empty for others."""
    if cifar := re.fullmatch(r"cifar_resnet(\d+)(_x\d+_\d+)?", name):
        num_blocks = (int(cifar[1]) - 2) // 6
        return {1 << i: f"layer{i + 1}.{num_blocks - 1}.relu" for i in range(3)}
    library, _, rest = name.rpartition(":")
    is_same = library == "torchvision" and rest.startswith(("resnet", "mobilenet_v2"))
    return TAPS.get(rest if is_same else name, {})


def known_points(teacher: str, student: str) -> list[tuple[str, str]]:
    """Returns (teacher path, student path) pairs of two built-in networks, shallow to deep.

    Empty where the tables share fewer than two strides, as those of a network for small images and
    one for large ones: what they share is at other depths. Discovery is for those.

    Example:
        >>> from mgd.models.pairs import known_points
        >>> known_points("resnet18", "shufflenet_v2")[-1]
        ('layer4.1.relu', 'stage4')
    """
    teachers, students = taps_of(teacher), taps_of(student)
    shared = sorted(teachers.keys() & students.keys())
    return [(teachers[s], students[s]) for s in shared] if len(shared) > 1 else []
