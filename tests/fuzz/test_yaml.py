"""Any YAML given with -c or --points: used, or one line; never a traceback, never obeyed."""

from itertools import count
from pathlib import Path

import yaml
from cases import fuzz, fuzz_less
from hypothesis import given
from hypothesis import strategies as st

from mgd.engine.options.config import OPTIONS

WORDS = ["--size", "8", "-a", "cifar_resnet8_x0_25", "-j", "0", "--train-images", "20"]
WORDS += ["--epochs", "1", "-b", "20", "--tensorboard", "0", "-o", "runs", "--experiment"]
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-2, 3), st.floats(), st.text(max_size=20),
    st.binary(max_size=4), st.dates(),
    st.sampled_from(["auto", "mgd", "kd", "os:getcwd", "1e-3", "0x10", "inf", "../..", "\0", "~"]),
)  # fmt: skip
CHOICES = {key: item.choices for item in OPTIONS.values() for key in item.keys}
NAMES = st.sampled_from([*CHOICES, "epoch", "", "-c", "help"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=2),
    max_leaves=4,
)
PLAUSIBLE = st.sampled_from(list(CHOICES)).flatmap(
    lambda name: st.tuples(
        st.just(name), st.sampled_from(CHOICES[name]) if CHOICES[name] else VALUES
    )
)
OPTIONS = st.dictionaries(NAMES | SCALARS, VALUES, max_size=3).map(yaml.dump) | st.lists(
    PLAUSIBLE, max_size=3
).map(lambda pairs: yaml.dump(dict(pairs)))
TAGS = st.sampled_from(
    [
        "x: !!python/object/apply:os.mkdir [obeyed]",
        "!!python/object/new:os.system [mkdir obeyed]",
        "epochs: !!python/name:os.getcwd",
        "a: &a [*a]",
        "a: &a {b: *a}",
        "<<: 3",
        "? [1]\n: 2",
        "epochs: 1_0",
        "[" * 3000,
        "--- 1\n--- 2",
    ]
)
FILES = st.one_of(OPTIONS.map(str.encode), TAGS.map(str.encode), st.binary(max_size=40)) | (
    st.text(alphabet=":-[]{}!&*#|>'\"%@` \n\tab1", max_size=30).map(str.encode)
)
RUNS = count()


@fuzz
@given(content=FILES)
def test_any_config(untrained, outcome, content):
    Path("config.yaml").write_bytes(content)
    outcome(["train", "digits", *WORDS, f"run-{next(RUNS)}", "-c", "config.yaml"])
    assert not Path("obeyed").exists()
    assert {path.name for path in untrained.iterdir()} <= {"config.yaml", "runs"}


TAPS = st.sampled_from(["layer1.0.relu", "layer2.0.relu", "relu", "conv1", "", "fc", "layer9"])
POINTS = st.lists(
    st.dictionaries(
        st.sampled_from(["teacher", "student", "norm", "other"]), TAPS | VALUES, max_size=4
    )
    | VALUES,
    max_size=2,
).map(yaml.dump)
TEACHER = ["--teacher", "cifar_resnet8_x0_25", "--use-pretrained", "0", "--mgd-images", "20"]


@fuzz_less
@given(content=POINTS.map(str.encode) | FILES)
def test_any_points(untrained, outcome, content):
    Path("points.yaml").write_bytes(content)
    words = ["distill", "digits", *WORDS, f"points-{next(RUNS)}", *TEACHER]
    outcome([*words, "--points", "points.yaml"])
    assert not Path("obeyed").exists()
