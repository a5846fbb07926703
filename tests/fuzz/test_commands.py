"""Any command line: done, or one line that says why not."""

from itertools import count

from cases import fuzz
from hypothesis import given
from hypothesis import strategies as st

from mgd.cli.main import COMMANDS
from mgd.engine.options.config import OPTIONS

# A case must not take long or much: no large images, no pool of processes, no whole demo.
SMALL = ["--size", "8", "-j", "0", "--train-images", "20", "--epochs", "1", "-b", "20"]
SMALL += ["--tensorboard", "0", "-o", "runs"]
FIXED = {"size", "workers", "train_images", "epochs", "output", "data", "experiment"}
FIXED |= {"warmup_epochs", "tensorboard"}
WORDS = """0 1 -1 nan inf 1e400 auto digits digits/ . .. ~ mgd os:getcwd torchvision: timm: : %s {}
timm:nope torchvision:get_model os.path: a:b:c cifar_resnet8_x0_0 cifar_resnet8_x9_9 runs ٣ 1_0 [1]
- -- --epochs -h @file"""
ODD = st.one_of(
    st.sampled_from([*WORDS.split(), "", "\t", "\udcff", "a" * 300]),
    st.text(st.characters(exclude_characters="\0"), max_size=12),
    st.integers(-3, 300).map(str),
    st.floats().map(str),
)
FIELDS = [item for item in OPTIONS.values() if item.name not in FIXED]
RUNS = count()


def value_of(item):
    good = [str(choice) for choice in item.choices] + [str(item.default)]
    return st.sampled_from(good) | ODD


OPTION = st.sampled_from(FIELDS).flatmap(
    lambda item: st.tuples(st.just(item.flag), value_of(item)).map(
        lambda pair: list(pair[:1] if isinstance(item.default, bool) else pair)
    )
)
RUN = st.tuples(
    st.sampled_from(["train", "distill", "evaluate"]),
    st.sampled_from(["digits", "digits", "digits"]) | ODD,
    st.lists(OPTION, max_size=3),
).map(
    lambda parts: [
        *(parts[0], parts[1], "-a", "cifar_resnet8_x0_25", "--teacher", "cifar_resnet8_x0_25"),
        *("--use-pretrained", "0"),
        *[word for option in parts[2] for word in option],
        *(*SMALL, "--experiment", f"run-{next(RUNS)}"),
    ]
)
OTHER_FLAGS = ["--teacher", "--student", "--size", "--points", "--format", "--output", "-o"]
OTHER_FLAGS += ["--arch", "--help", "--seeds", "--jobs", "--teacher-size", "--model", "-m", "-k"]
OTHER_FLAGS += ["--top-k", "--batch-size", "--workers", "--bit-depth"]
OTHERS = st.tuples(
    st.sampled_from([name for name in COMMANDS if name != "demo"]) | ODD,
    st.lists(st.sampled_from(OTHER_FLAGS) | ODD, max_size=4),
).map(lambda parts: [parts[0], *parts[1]])
DEMO = st.lists(st.sampled_from(["0", "-1", "x", "--seeds", "--epochs", "--jobs"]), max_size=3).map(
    lambda words: ["demo", *words, "--jobs", "0"]
)


@fuzz
@given(words=RUN | OTHERS | DEMO)
def test_any_command_line(untrained, outcome, words):
    outcome(words)
    assert {path.name for path in untrained.iterdir()} <= {"runs"}
