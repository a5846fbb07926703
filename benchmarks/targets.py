"""Targets: what the method may cost at most, and what was measured, as in `docs/speed.md`."""

from typing import Any

from benchmarks.common import PAIRS, on_gpu

IMAGENET, TRACKED = 1_281_167, 20_480
"""Training images of ImageNet-1K, and images that each update of the matching measures."""

COMPILED = "resnet50 -> mobilenet_v2_eccv"
"""The pair that `benchmarks.step` compiles."""

Target = tuple[str, float, float | None]
"""What is limited, its limit, and the figure of `results.json`; `None` where none was measured."""


def targets(results: dict[str, Any]) -> list[Target]:
    """Returns every target."""
    step, gpu = (results.get(name, {}).get("pairs", {}) for name in ("step", on_gpu("step")))
    matching = results.get("matching", {})
    tracking = matching.get("tracking", {})
    solving = matching.get("solve, four points of resnet50 -> mobilenet_v1", {}).get("scipy")
    found: list[Target] = []

    def each_pair(what: str, most: float, measured: dict[str, Any], key: str) -> None:
        for pair in PAIRS:
            found.append((f"{what}, {pair}", most, measured.get(pair, {}).get(key)))

    each_pair("MGD-AMP step / floor, CPU", 1.08, step, "mgd / floor")
    with_adapter = results.get("adapter", {}).get("pairs", {})
    ratios = {pair: found["over the floor"] for pair, found in with_adapter.items()}
    each_pair("MGD adapter step / floor, CPU", 1.08, ratios, "mgd-adapter")
    each_pair("MGD-AMP + KD step / KD step, GPU", 1.05, gpu, "mgd+kd / kd")
    compiled = gpu.get(COMPILED, {}).get("mgd+kd, fast / kd, fast")
    found.append((f"the same, both with all flags, {COMPILED}", 1.03, compiled))
    each_pair("peak memory of an MGD-AMP step / KD step, CPU", 1.05, step, "memory")
    each_pair("tracking / its two forwards", 1.15, tracking, "tracking / forwards")
    found.append(("solve, four points of resnet50 -> mobilenet_v1, seconds", 1.0, solving))
    for how, most in (("pass", 0.02), ("online", 0.01)):
        for pair in PAIRS:
            share = update_share(results, pair).get(how)
            found.append(
                (f"update of the matching / epoch of ImageNet-1K, {how}, {pair}", most, share)
            )
    fast = step.get(COMPILED, {}).get("mgd+kd, fast / kd")
    return [*found, (f"MGD-AMP + KD step with all flags / KD step, CPU, {COMPILED}", 0.65, fast)]


def update_share(results: dict[str, Any], pair: str) -> dict[str, float]:
    """Returns the time of an update of the matching over that of an epoch on ImageNet-1K.

    Both are computed from the times of their parts. A pass runs both networks on its images; online
    tracking has the features already. Both solve once, which is taken to be as long as for the four
    points of ResNet-50 -> MobileNet-V1. An epoch is the sum of its training steps.
    """
    step = results.get("step", {}).get("pairs", {}).get(pair)
    matching = results.get("matching", {})
    tracked = matching.get("tracking", {}).get(pair)
    if not step or not tracked:
        return {}
    solve = matching["solve, four points of resnet50 -> mobilenet_v1"]["scipy"]
    epoch = IMAGENET * step["seconds"]["mgd"] / step["batch"]
    # The ratio of the rounds varies less than the difference of two medians.
    forwards, ratio = tracked["seconds an image"]["forwards"], tracked["tracking / forwards"]
    an_image = {"pass": forwards * ratio, "online": forwards * (ratio - 1)}
    return {how: round((TRACKED * each + solve) / epoch, 4) for how, each in an_image.items()}
