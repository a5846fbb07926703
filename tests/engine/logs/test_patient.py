"""A log that fails: training goes on, nothing is lost that could be sent later, one warning."""

import sys

import pytest
import torch
import yaml

from mgd.cli.parser import RunParser
from mgd.engine.logs import check_logs, patient
from mgd.engine.logs.opening import _LOGS, _PACKAGES
from mgd.engine.logs.patient import PatientLog
from mgd.engine.options.config import RunConfig
from mgd.engine.options.output import LOGS
from mgd.engine.run import train
from mgd.errors import InputError
from mgd.runfolder import RunResult, read_epochs, read_result
from recorded import an_epoch

IMAGE = torch.zeros(3, 2, 2, dtype=torch.uint8)


RESULT = RunResult(best_epoch=0, valid_top1=1, valid_top5=2, trained_parameters=3, seconds=4)


class Server:
    """Takes calls while it is up, and keeps them."""

    def __init__(self, up=True):
        self.up, self.taken, self.opened = up, [], 0

    def open(self):
        self._answer()
        self.opened += 1
        return self

    def _answer(self, *call):
        if not self.up:
            raise ConnectionError("no\nanswer")
        self.taken += [call] if call else []

    def add_options(self, options):
        self._answer("options", options)

    def add_epoch(self, record):
        self._answer("epoch", record.epoch)

    def add_image(self, name, image, epoch=0):
        self._answer("image", name)

    def finish(self, result):
        self._answer("result")

    def close(self):
        self._answer("closed")


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves, in seconds."""
    now = [100.0]
    monkeypatch.setattr(patient.time, "monotonic", lambda: now[0])
    return now


def told(caplog):
    return [record.getMessage() for record in caplog.records]


def test_a_server_that_answers_gets_everything(caplog):
    server = Server()
    log = PatientLog("server", server.open)
    log.add_options({"arch": "resnet18"})
    log.add_image("sample", IMAGE)
    log.add_epoch(an_epoch(0))
    log.finish(RESULT)
    log.close()
    assert server.taken == [
        ("options", {"arch": "resnet18"}), ("image", "sample"), ("epoch", 0), ("result",),
        ("closed",),
    ]  # fmt: skip
    assert told(caplog) == []


@pytest.mark.parametrize("up_at_first", [True, False])
def test_what_a_server_missed_comes_later_in_order(caplog, clock, up_at_first):
    server = Server(up=up_at_first)
    log = PatientLog("server", server.open)
    log.add_options({})
    server.up = False
    log.add_epoch(an_epoch(0))
    log.add_image("sample", IMAGE)  # a picture is not kept
    clock[0] += 30
    server.up = True
    log.add_epoch(an_epoch(1))
    assert [each[0] for each in server.taken] == ["options"] * up_at_first  # a minute's pause
    clock[0] += 31
    log.add_epoch(an_epoch(2))
    assert server.taken == [("options", {}), ("epoch", 0), ("epoch", 1), ("epoch", 2)]
    assert server.opened == 1
    assert told(caplog) == [
        "server does not take the figures of the run (no answer); the run goes on, keeps them in "
        "its folder, and tries again"
    ]


def test_a_server_that_hangs_takes_a_tenth_of_the_time(clock):
    tries = []

    def hang():
        tries.append(clock[0])
        clock[0] += 100
        raise TimeoutError

    log = PatientLog("server", hang)
    for epoch in range(200):
        clock[0] += 10
        log.add_epoch(an_epoch(epoch))
    assert 2 <= len(tries) <= 3


def test_the_end_of_a_run_does_not_wait_for_the_next_try(clock, caplog):
    server = Server(up=False)
    log = PatientLog("server", server.open)
    log.add_epoch(an_epoch(0))
    server.up = True
    log.finish(RESULT)
    assert server.taken == [("epoch", 0), ("result",)]
    assert len(told(caplog)) == 1


def test_at_the_end_it_is_said_that_a_server_lacks_figures(caplog):
    log = PatientLog("server", Server(up=False).open)
    log.add_epoch(an_epoch(0))
    log.close()
    assert len(told(caplog)) == 2
    assert told(caplog)[1] == (
        "server did not get the last figures of the run; the run folder has them all"
    )


def test_a_dead_server_stops_no_run(fast_run, monkeypatch, free_port, tmp_path, caplog):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port}")
    for name in ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.setenv(name, "0" if name.endswith("RETRIES") else "2")
    folder = train(fast_run.replace(log=("mlflow",))).folder
    assert [record.epoch for record in read_epochs(folder)] == [0, 1]
    assert read_result(folder) is not None
    about = [text for text in told(caplog) if text.startswith("mlflow")]
    assert len(about) == 2
    assert "does not take the figures" in about[0]
    assert "did not get the last figures" in about[1]


@pytest.mark.parametrize("name", LOGS)
def test_a_package_that_is_missing_is_told_before_anything_is_written(
    fast_run, monkeypatch, tmp_path, name
):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=rf"--log {name} needs .*\[log\]"):
        train(fast_run.replace(log=(name,)))
    assert not (tmp_path / "runs").exists()


def test_the_first_rank_alone_needs_the_packages(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    output = RunConfig().replace(log=("wandb",)).output
    monkeypatch.setenv("RANK", "1")
    check_logs(output)
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(InputError):
        check_logs(output)


def test_both_are_named_by_repeating_the_option(tmp_path):
    words = ["digits", "--log", "wandb", "--log", "mlflow"]
    config = RunParser("train").read(words)
    assert config.output.log == ("wandb", "mlflow")
    file = tmp_path / "args.yaml"
    file.write_text(yaml.safe_dump(config.flat()))
    assert RunParser("train").read(["-c", str(file)]).output.log == ("wandb", "mlflow")


def test_the_options_names_are_the_logs():
    assert set(LOGS) == set(_LOGS) == set(_PACKAGES)
    with pytest.raises(InputError, match=r"`log` \(=tensorflow\) is unknown; choose one of wandb"):
        RunConfig().replace(log=("tensorflow",))
    with pytest.raises(InputError, match="twice"):
        RunConfig().replace(log=("wandb", "wandb"))
