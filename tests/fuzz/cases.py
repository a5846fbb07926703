"""How many cases: MGD_FUZZ_CASES each, 200 where it is not set, more in `make fuzz`."""

import os

import hypothesis

CASES = int(os.environ.get("MGD_FUZZ_CASES", "200"))

fuzz = hypothesis.settings(
    max_examples=CASES,
    deadline=None,
    derandomize=True,  # the same cases on every machine
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
    # Not made smaller: a case takes a tenth of a second, and a hundred more tell little.
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)

fuzz_less = hypothesis.settings(fuzz, max_examples=max(1, CASES // 4))
"""For variants of a kind of input that has its full number of cases already."""
