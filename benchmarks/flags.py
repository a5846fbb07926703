"""Times a KD step under each option that makes the networks cheaper, over the step without any.

`python -m benchmarks.flags` measures ResNet-50 -> MobileNet-V2 as `benchmarks.step` does.
"""

from benchmarks.common import DEVICE, PAIRS, arguments, interleaved, keep, median, ratio
from benchmarks.step import BATCH, FLAGS, KD, SIZE, Bench

PAIR = "resnet50 -> mobilenet_v2_eccv"
PLAIN = "none"
TOGETHER = ("fold_teacher, channels_last", "fold_teacher, channels_last, compile")


def main() -> None:
    """Measures every option alone, and those together that need no bf16.

    Options of bf16 are left out where it is emulated, which takes minutes a step.
    """
    rounds = arguments(__doc__, rounds=5).rounds
    bench = Bench(*PAIRS[PAIR])
    steps = {PLAIN: bench.distilling(PLAIN, **KD)}
    for names in (*FLAGS, *TOGETHER):
        options = {key: value for name in names.split(", ") for key, value in FLAGS[name].items()}
        steps[names] = bench.distilling(names, **KD, **options)
    seconds = interleaved(steps, rounds)
    found = {
        "setting": f"{PAIR}, batch {BATCH} at {SIZE} px, {rounds} rounds",
        "device": DEVICE,
        "seconds": {name: median(values) for name, values in seconds.items()},
        "ratio": {name: ratio(values, seconds[PLAIN]) for name, values in seconds.items()},
    }
    keep("flags", "python -m benchmarks.flags", found)


if __name__ == "__main__":
    main()
