"""Checkpoints: whole or not there, damage is found, nothing in them is obeyed."""

import logging
import os
import pickle
import resource
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import load_file
from torch import nn

import forking
from mgd.engine.loop.checkpoint import (
    checksum,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
    save_weights,
)
from mgd.errors import InputError, RunError
from mgd.models import TORCHVISION, Metadata, create_model
from mgd.views import View

METADATA = Metadata(arch="net", classes=("a", "b"), view=View())


def state(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "student": OrderedDict(weight=torch.randn(300, generator=generator)),
        "optimizer": {"state": {0: {"step": 3}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "rng": torch.arange(16, dtype=torch.uint8),
        "empty": torch.empty(0, 3),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "epoch": 4,
        "config": {"arch": "resnet18", "gpu": None, "lr-drop-epochs": [1, 2]},
    }


def test_what_is_saved_is_loaded(tmp_path):
    save_checkpoint(state(), tmp_path / "last.ckpt")
    loaded = load_checkpoint(tmp_path / "last.ckpt")
    assert loaded.pop("format") == 2
    assert checksum(loaded) == checksum(state())
    torch.testing.assert_close(loaded["student"]["weight"], state()["student"]["weight"])
    assert loaded["config"] == state()["config"]


def test_torch_alone_reads_it_without_running_code(tmp_path):
    save_checkpoint(state(), tmp_path / "last.ckpt")
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 4


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["student"]["weight"].mul_(-1),
        lambda s: s["student"].update(weight=s["student"]["weight"].view(3, 100)),
        lambda s: s["student"].update(weight=s["student"]["weight"].view(torch.int32)),
        lambda s: s["student"].update(bias=s["student"].pop("weight")),
        lambda s: s["config"].update({"lr-drop-epochs": [12]}),
        lambda s: s["config"].update({"gpu": 0}),
        lambda s: s.update(epoch=5),
        lambda s: s.update(empty=torch.empty(3, 0)),
    ],
)
def test_the_checksum_sees_every_kind_of_change(change):
    changed = state()
    change(changed)
    assert checksum(changed) != checksum(state())


def test_the_checksum_does_not_see_strides():
    matrix = torch.randn(5, 7)
    assert checksum({"m": matrix}) == checksum({"m": matrix.t().contiguous().t()})


def what_is_read(path):
    """Returns the checksum of a checkpoint that loads, or the error's text."""
    try:
        return checksum(load_checkpoint(path))
    except InputError as error:
        return str(error)


def test_a_flipped_bit_is_found_wherever_it_matters(tmp_path):
    path = tmp_path / "last.ckpt"
    save_checkpoint(state(), path)
    whole, expected = path.read_bytes(), checksum(load_checkpoint(path))
    refused = 0
    for place in range(7, len(whole), len(whole) // 150):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        found = what_is_read(path)
        # Padding, or ZIP headers that nobody reads: what is loaded is what was saved.
        assert found == expected or found.startswith(f"'{path}' ")
        assert "\n" not in found
        refused += found != expected
    assert refused > 50


def test_a_flipped_weight_is_told_from_its_checksum(tmp_path):
    path = tmp_path / "last.ckpt"
    save_checkpoint(state(), path)
    content = bytearray(path.read_bytes())
    place = content.find(state()["student"]["weight"].numpy().tobytes())
    assert place > 0
    content[place + 100] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="is damaged: its checksum does not fit"):
        load_checkpoint(path)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, share):
    path = tmp_path / "last.ckpt"
    save_checkpoint(state(), path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(InputError, match="is damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"state_dict": {"weight": torch.ones(1)}}, "is no checkpoint of a run"),
        ([1, 2], "is no checkpoint of a run"),
        (
            {"format": 1, "epoch": 3},
            "format 1, this version reads 2; use the version",
        ),
        ({"format": 99}, "has checkpoint format 99, this version reads 2"),
        ({"format": 2, "epoch": 3}, "its checksum does not fit"),
    ],
)
def test_another_file_is_refused(tmp_path, content, reason):
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match=reason):
        load_checkpoint(tmp_path / "other.ckpt")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"'.*none\.ckpt' does not exist"):
        load_checkpoint(tmp_path / "none.ckpt")


class Obeyed:
    """Pickles as an order to make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("write", [torch.save, lambda o, p: p.write_bytes(pickle.dumps(o))])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, write):
    write({"format": 1, "student": Obeyed(tmp_path / "obeyed")}, tmp_path / "last.ckpt")
    with pytest.raises(InputError, match="objects other than tensors"):
        load_checkpoint(tmp_path / "last.ckpt")
    assert not (tmp_path / "obeyed").exists()


def test_newest_of_an_empty_folder_is_none(tmp_path):
    assert newest_checkpoint(tmp_path) is None


def save_two(folder):
    for epoch in (1, 2):
        save_checkpoint({**state(), "epoch": epoch}, folder / "last.ckpt", keep_previous=True)


def test_newest_is_the_last_and_quiet(tmp_path, caplog):
    save_two(tmp_path)
    assert newest_checkpoint(tmp_path)["epoch"] == 2
    assert load_checkpoint(tmp_path / "previous.ckpt")["epoch"] == 1
    assert not caplog.records


def test_a_damaged_last_gives_way_to_the_one_before_loudly(tmp_path, caplog):
    save_two(tmp_path)
    (tmp_path / "last.ckpt").write_bytes(b"torn")
    with caplog.at_level(logging.WARNING):
        assert newest_checkpoint(tmp_path)["epoch"] == 1
    error, warning = caplog.records
    assert error.levelno == logging.ERROR
    assert "last.ckpt' is damaged" in error.getMessage()
    assert "previous.ckpt" in warning.getMessage()


def test_a_missing_last_gives_way_to_the_one_before(tmp_path):
    """As a power cut between the two renames would leave it."""
    save_two(tmp_path)
    (tmp_path / "last.ckpt").unlink()
    assert newest_checkpoint(tmp_path)["epoch"] == 1


def test_a_run_never_starts_afresh_over_damaged_checkpoints(tmp_path):
    save_two(tmp_path)
    for name in ("last.ckpt", "previous.ckpt"):
        (tmp_path / name).write_bytes(b"torn")
    with pytest.raises(
        InputError, match=r"no checkpoint of .* can be used: .*last.ckpt. is damaged"
    ):
        newest_checkpoint(tmp_path)


@pytest.mark.parametrize("keep", [True, False])
def test_a_failed_write_leaves_the_old_file_alone(tmp_path, monkeypatch, keep):
    path = tmp_path / "last.ckpt"
    save_checkpoint(state(), path)
    before = path.read_bytes()

    def full(content, file):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(RunError, match=r"cannot write .*last\.ckpt.*No space left.*--resume auto"):
        save_checkpoint(state(1), path, keep_previous=keep)
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    assert path.read_bytes() == before


def save_beyond_a_limit(folder):
    path = Path(folder) / "last.ckpt"
    save_checkpoint({"epoch": 1, "w": torch.zeros(10)}, path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    try:
        save_checkpoint({"epoch": 2, "w": torch.zeros(100_000)}, path, keep_previous=True)
    except RunError as error:
        print("RunError", "|".join(str(error).splitlines()))
    print(load_checkpoint(path)["epoch"], sorted(file.name for file in path.parent.iterdir()))


def test_a_file_that_grows_too_large_leaves_the_old_one(tmp_path):
    """The same with a real limit of the operating system, in a process of its own."""
    (tmp_path / "run").mkdir()
    process = forking.start(save_beyond_a_limit, tmp_path, str(tmp_path / "run"))
    assert forking.end_of(process, tmp_path) == 0, forking.printed(tmp_path)
    error, left = forking.printed(tmp_path).splitlines()
    assert error.startswith("RunError cannot write")
    assert "|" not in error
    assert left == "1 ['last.ckpt']"


def test_temporary_names_cannot_be_foreseen(tmp_path, monkeypatch):
    names = []
    real = torch.save
    monkeypatch.setattr(torch, "save", lambda s, f: (names.append(f.name), real(s, f)))
    for _ in range(2):
        save_checkpoint(state(), tmp_path / "last.ckpt")
    assert len(set(names)) == 2
    assert all(len(name) > len("last.ckpt") + 16 for name in names)


def test_it_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done = []
    real = os.fsync
    monkeypatch.setattr(
        os,
        "fsync",
        lambda fd: (done.append((tmp_path / "last.ckpt").exists()), real(fd)),
    )
    save_checkpoint(state(), tmp_path / "last.ckpt")
    assert done[0] is False


def test_tied_weights_of_a_student_are_written(tmp_path):
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    network[1].weight = network[0].weight
    save_weights(network, tmp_path / "student.safetensors", METADATA)
    twin = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    twin.load_state_dict(load_file(tmp_path / "student.safetensors"), strict=True)
    assert torch.equal(twin[1].weight, network[0].weight)


STOCK = {name: name for name in TORCHVISION} | {
    "shufflenet_v2": "shufflenet_v2_x1_0",
    "shufflenet_v2_x0_5": "shufflenet_v2_x0_5",
}


@pytest.mark.parametrize("name", STOCK)
@torch.no_grad()
def test_a_student_loads_into_torchvisions_own_network(name, tmp_path):
    student = create_model(name, num_classes=7).eval()
    save_weights(student, tmp_path / "student.safetensors", METADATA)
    stock = torchvision.models.get_model(STOCK[name], num_classes=7).eval()
    stock.load_state_dict(load_file(tmp_path / "student.safetensors"), strict=True)
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(stock(images), student(images))


def test_a_run_of_the_version_before_is_refused_with_the_reason(tmp_path):
    """Its format was 1; `--resume auto` says so instead of starting over."""
    for name in ("last.ckpt", "previous.ckpt"):
        torch.save({"format": 1, "epoch": 3}, tmp_path / name)
    with pytest.raises(InputError, match="has checkpoint format 1, this version reads 2; use the"):
        newest_checkpoint(tmp_path)
