"""How many cases: MGD_FUZZ_CASES each, 200 where it is not set, more in `make fuzz`."""

import os

import hypothesis

fuzz = hypothesis.settings(
    max_examples=int(os.environ.get("MGD_FUZZ_CASES", "200")),
    deadline=None,
    derandomize=True,  # the same cases on every machine
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate, hypothesis.Phase.shrink],
)
