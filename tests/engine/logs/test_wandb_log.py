"""Weights & Biases, offline: what is in the files that `wandb sync` would send."""

import json
import os
import struct
from pathlib import Path

import pytest

from mgd.engine.run import train
from mgd.errors import InputError
from mgd.runfolder import read_epochs, read_result

wandb = pytest.importorskip("wandb")


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    """No network, and no process is left behind."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_INIT_TIMEOUT", "WANDB_FINISH_TIMEOUT"):
        monkeypatch.setenv(name, "60")  # so that the run's own values do not stay
    yield
    wandb.teardown()


@pytest.fixture
def config(fast_run):
    return fast_run.replace(log=("wandb",), experiment="mine")


def records_of(file):
    """Yields the records of a file, which is in the format of LevelDB's log.

    It has 7 bytes that say what it is, and blocks of 32 KiB. A block has pieces: 7 bytes with the
    length at 4 and the place in the record at 6 (1: all of it, 2: first, 3: middle, 4: last).
    """
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, data = file.read_bytes(), 7, b""
    assert content[:4] == b":W&B"
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        data += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            record = Record()
            record.ParseFromString(data)
            yield record
            data = b""


def plain(items):
    """Returns names and values of a record's items."""
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


class Sent:
    """What one process of a run would send."""

    def __init__(self, file):
        self.config, self.summary, self.history = {}, {}, []
        for record in records_of(file):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                self.run = record.run
                self.config |= plain(record.run.config.update)
            elif kind == "config":
                self.config |= plain(record.config.update)
            elif kind == "summary":
                self.summary |= plain(record.summary.update)
            elif kind == "history":
                self.history.append(plain(record.history.item))
            elif kind == "exit":
                self.exit_code = record.exit.exit_code


def sent(folder):
    wandb.teardown()  # whose process writes the files
    files = sorted((folder / "wandb").glob("offline-run-*/*.wandb"))
    return [Sent(file) for file in files]


def test_a_run_is_a_run_there(config):
    folder = train(config).folder
    (there,) = sent(folder)
    assert (there.run.display_name, there.run.project) == ("mine", "mgd")
    options = {name: there.config[name] for name in config.flat()}
    assert options == config.flat()
    rows = [record.row() for record in read_epochs(folder)]
    told = [{name: row[name] for name in rows[0]} for row in there.history if "loss" in row]
    assert told == [pytest.approx(row) for row in rows]
    picture, *_ = (row for row in there.history if "loss" not in row)
    assert picture["training images as the student sees them/_type"] == "image-file"
    result = read_result(folder)
    assert there.summary["result/valid_top1"] == pytest.approx(result.valid_top1)
    assert there.exit_code == 0


def test_a_resumed_run_goes_on_in_the_same_run(config, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "other")
    folder = train(config.replace(epochs=1)).folder
    train(config.replace(resume="auto"))
    first, second = sent(folder)
    assert first.run.run_id == second.run.run_id
    assert json.loads((folder / "log_ids.json").read_text()) == {"wandb": first.run.run_id}
    assert [row["epoch"] for row in second.history if "loss" in row] == [1]
    assert (first.config["epochs"], second.config["epochs"]) == (1, 2)
    assert second.run.project == "other"


def test_a_run_that_breaks_down_has_failed(config):
    with pytest.raises(InputError, match="not finite"):
        train(config.replace(learning_rate=1e30))
    (there,) = sent(Path(config.output.output) / "mine")
    assert there.exit_code == 1
