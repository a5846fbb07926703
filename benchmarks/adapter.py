"""Times a training step with an adapter over one without, and over the floor.

`python -m benchmarks.adapter` measures the four published pairs as `benchmarks.step` does; the
environment variable PAIRS, a part of a pair's name, limits the pairs.
"""

import os
from typing import Any

from benchmarks.common import DEVICE, PAIRS, arguments, interleaved, keep, kept, median, ratio
from benchmarks.step import BATCH, MGD, SIZE, Bench

METHODS = {
    "mgd": MGD,
    "mgd-adapter": {"distiller": "mgd-adapter"},
    "ofd": {"distiller": "ofd"},
    "on 64 positions": {"distiller": "benchmarks.evidence.trial_adapters:AtMost64"},
}


def measure(bench: Bench, rounds: int) -> dict[str, Any]:
    """Returns seconds of one pair's steps, and their ratios to the floor."""
    steps = {"floor": bench.floor()}
    steps |= {name: bench.distilling(name, **options) for name, options in METHODS.items()}
    seconds = interleaved(steps, rounds)
    return {
        "rounds": rounds,
        "seconds": {name: median(values) for name, values in seconds.items()},
        "over the floor": {name: ratio(seconds[name], seconds["floor"]) for name in METHODS},
    }


def main() -> None:
    """Measures every pair that is asked for."""
    chosen = os.environ.get("PAIRS", "")
    rounds = arguments(__doc__, rounds=7).rounds
    pairs = {name: measure(Bench(*pair), rounds) for name, pair in PAIRS.items() if chosen in name}
    setting = f"batches of {BATCH} images at {SIZE} px"
    pairs = {**kept("adapter").get("pairs", {}), **pairs}
    found = {"setting": setting, "device": DEVICE, "pairs": pairs}
    keep("adapter", "python -m benchmarks.adapter", found)


if __name__ == "__main__":
    main()
