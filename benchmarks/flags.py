"""Times a KD step under each flag that makes the networks cheaper, over the step without any.

`python -m benchmarks.flags` measures ResNet-50 -> MobileNet-V2 as `benchmarks.step` does.
"""

from dataclasses import fields

from benchmarks.common import DEVICE, PAIRS, arguments, interleaved, keep, median, ratio
from benchmarks.step import BATCH, BF16, SIZE, Bench, Flags

PAIR = "resnet50 -> mobilenet_v2_eccv"
PLAIN = "none"


def main() -> None:
    """Measures every flag alone, and those together that need no bf16.

    Flags of bf16 are left out where it is emulated, which takes minutes a step.
    """
    rounds = arguments(__doc__, rounds=5).rounds
    names = [flag.name for flag in fields(Flags) if BF16 or "bf16" not in flag.name]
    sets = {PLAIN: Flags()} | {name: Flags(**{name: True}) for name in names}
    sets |= {
        "fold_teacher, channels_last": Flags(fold_teacher=True, channels_last=True),
        "fold_teacher, channels_last, compile": Flags(
            fold_teacher=True, channels_last=True, compile=True
        ),
    }
    bench = Bench(*PAIRS[PAIR])
    steps = {name: bench.distilling(name, (), kd=True, flags=each) for name, each in sets.items()}
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
