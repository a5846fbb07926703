"""Any bytes in place of a checkpoint: refused in one line, or what was saved."""

import functools
import io
import json
import operator
from itertools import count
from pathlib import Path

import pytest
import torch
from cases import fuzz, fuzz_less
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load, save

from mgd.cli import main
from mgd.engine.loop.checkpoint import load_checkpoint, save_checkpoint

WORDS = ["--size", "8", "-a", "cifar_resnet8_x0_25", "-j", "0", "--train-images", "20", "-b", "20"]
WORDS += ["--epochs", "1", "--tensorboard", "0", "-o", "runs", "--experiment"]
RUNS = count()


class Files(dict):
    """Bytes by name, shown without them."""

    def __repr__(self):
        return f"Files({list(self)})"


@pytest.fixture(scope="module")
def whole(world):
    """The bytes of a run's files."""
    assert main(["train", "digits", *WORDS, "whole"]) == 0
    names = ("last.ckpt", "student.safetensors")
    return Files({name: (world / "runs" / "whole" / name).read_bytes() for name in names})


DAMAGE = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert", "zero", "repeat", "header"]),
        st.floats(0, 1),
        st.binary(min_size=1, max_size=9),
    ),
    min_size=1,
    max_size=3,
)


def damaged(content, damage):
    content = bytearray(content)
    for kind, share, extra in damage:
        place = int(share * max(0, len(content) - 1))
        if kind == "flip" and content:
            content[place] ^= extra[0] or 1
        elif kind == "cut":
            del content[place:]
        elif kind == "insert":
            content[place:place] = extra
        elif kind == "zero":
            content[place : place + 99] = bytes(len(content[place : place + 99]))
        elif kind == "repeat":
            content[place:place] = content[place : place + 999]
        else:
            content[: len(extra)] = extra
    return bytes(content)


@fuzz_less
@given(damage=DAMAGE, name=st.sampled_from(["last.ckpt", "student.safetensors"]))
def test_damaged_weights(world, whole, outcome, damage, name):
    Path(name).write_bytes(damaged(whole[name], damage))
    outcome(["evaluate", "digits", *WORDS, "scores", "--student-resume", name])


@fuzz_less
@given(content=st.binary(max_size=60), name=st.sampled_from(["x.ckpt", "x.safetensors"]))
def test_any_bytes_as_weights(world, outcome, content, name):
    Path(name).write_bytes(content)
    assert outcome(["evaluate", "digits", *WORDS, "scores", "--student-resume", name]) == 2


@fuzz
@given(damage=DAMAGE)
def test_damaged_checkpoints_to_resume(world, whole, outcome, damage):
    Path("given.ckpt").write_bytes(damaged(whole["last.ckpt"], damage))
    outcome(["train", "digits", *WORDS, f"run-{next(RUNS)}", "--resume", "given.ckpt"])


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 5), st.floats(), st.text(max_size=5),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=3), st.integers()),
    st.sampled_from([torch.zeros(3), torch.tensor(float("nan")), torch.zeros(0)]),
)  # fmt: skip
KEYS = ["student", "distiller", "optimizer", "scheduler", "precision", "rng", "epoch", "step"]
KEYS += ["best", "meter", "watch", "data", "config", "format"]
INSIDE = [("best", "top1"), ("meter", "sums"), ("watch", "skipped"), ("data", "images")]
INSIDE += [("scheduler", "last_epoch"), ("config", "arch")]


@fuzz_less
# Was compared with a number, for which torch raises.
@example(path=("format",), value=torch.zeros(0))
@given(path=st.sampled_from([*((key,) for key in KEYS), *INSIDE]), value=VALUES | st.just("absent"))
def test_checkpoints_of_other_content(world, whole, outcome, path, value):
    """Whole by its checksum, but not what this program writes: of another version, or forged."""
    state = load_checkpoint(Path("runs/whole/last.ckpt"))
    *outer, key = path
    part = functools.reduce(operator.getitem, outer, state)
    if isinstance(value, str) and value == "absent":
        del part[key]
    else:
        part[key] = value
    save_checkpoint(state, Path("forged.ckpt"))
    outcome(["train", "digits", *WORDS, f"run-{next(RUNS)}", "--resume", "forged.ckpt"])


@fuzz_less
@given(state=st.dictionaries(st.sampled_from([*KEYS, "state_dict"]) | st.text(), VALUES))
def test_other_files_of_torch(world, outcome, state):
    memory = io.BytesIO()
    torch.save(state, memory)
    Path("other.pth").write_bytes(memory.getvalue())
    outcome(["evaluate", "digits", *WORDS, "scores", "--student-resume", "other.pth"])
    outcome(["train", "digits", *WORDS, f"run-{next(RUNS)}", "--resume", "other.pth"])


PLAIN = {"arch": "cifar_resnet8_x0_25", "classes": list("0123456789"), "view": {"size": 8}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 99) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)
FORGED = st.one_of(
    st.dictionaries(st.sampled_from([*PLAIN, "more"]), JSON).map(lambda part: {**PLAIN, **part}),
    st.dictionaries(
        st.sampled_from(["size", "mean", "std", "crop", "crop_pct", "colour"]), JSON
    ).map(lambda view: {**PLAIN, "view": view}),
    st.lists(st.text(max_size=4), max_size=12).map(lambda names: {**PLAIN, "classes": names}),
    JSON,
).map(json.dumps)


@fuzz
@given(text=FORGED | st.text(max_size=30))
def test_any_metadata(world, whole, outcome, text):
    """What a file says of its network is believed as far as it can be, or told; never obeyed."""
    Image.new("RGB", (8, 8)).save("image.png")
    weights = load(whole["student.safetensors"])
    Path("forged.safetensors").write_bytes(save(weights, {"mgd": text}))
    outcome(["predict", "image.png", "--model", "forged.safetensors"])
    outcome(["evaluate", "digits", *WORDS, "scores", "--model", "forged.safetensors"])
    torch.save(weights, "forged.pth")
    Path("forged.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    outcome(["export", "forged.pth", "-o", "forged.safetensors"])


@fuzz_less
@given(damage=DAMAGE)
def test_damaged_exports(world, whole, outcome, damage):
    """A damaged .pt2 archive. ONNX files are read by onnxruntime alone."""
    if "student.pt2" not in whole:
        Path("whole.safetensors").write_bytes(whole["student.safetensors"])
        assert main(["export", "whole.safetensors", "-o", "whole.pt2"]) == 0
        whole["student.pt2"] = Path("whole.pt2").read_bytes()
    Image.new("RGB", (8, 8)).save("image.png")
    Path("damaged.pt2").write_bytes(damaged(whole["student.pt2"], damage))
    outcome(["predict", "image.png", "--model", "damaged.pt2"])
