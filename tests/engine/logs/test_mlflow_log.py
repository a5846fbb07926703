"""MLflow: what its own client finds in a store on the disk."""

import json

import pytest

from mgd.engine.run import train
from mgd.errors import InputError
from mgd.runfolder import read_epochs, read_result

mlflow = pytest.importorskip("mlflow")


@pytest.fixture
def client(tmp_path, monkeypatch):
    """The client of a store in a folder, which MLflow allows where it is told to."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(tmp_path / "store"))
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for name in ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.setenv(name, "2")  # so that the run's own values do not stay
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    return mlflow.MlflowClient()


def runs_of(client, experiment="mgd"):
    number = client.get_experiment_by_name(experiment).experiment_id
    return client.search_runs([number])


@pytest.fixture
def config(fast_run):
    return fast_run.replace(log=("mlflow",), experiment="mine")


def test_a_run_is_a_run_there(client, config):
    folder = train(config).folder
    (run,) = runs_of(client)
    assert run.info.run_name == "mine"
    assert run.info.status == "FINISHED"
    assert run.data.params == {name: str(value) for name, value in config.flat().items()}
    rows = [record.row() for record in read_epochs(folder)]
    for name in rows[0]:
        told = client.get_metric_history(run.info.run_id, name)
        assert [(each.step, each.value) for each in told] == [
            (row["epoch"], pytest.approx(row[name])) for row in rows
        ]
    result = read_result(folder)
    assert run.data.metrics["result/valid_top1"] == pytest.approx(result.valid_top1)
    assert run.data.metrics["result/best_epoch"] == result.best_epoch
    (picture,) = client.list_artifacts(run.info.run_id)
    assert picture.path == "training-images-as-the-student-sees-them-0.png"


def test_a_resumed_run_goes_on_in_the_same_run(client, config, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "other")
    folder = train(config.replace(epochs=1)).folder
    train(config.replace(resume="auto"))
    (run,) = runs_of(client, "other")
    assert json.loads((folder / "log_ids.json").read_text()) == {"mlflow": run.info.run_id}
    told = client.get_metric_history(run.info.run_id, "valid_top1")
    assert [each.step for each in told] == [0, 1]
    assert run.info.status == "FINISHED"
    assert run.data.params["epochs"] == "1"
    assert run.data.tags["resumed.epochs"] == "2"
    assert not any(
        name.startswith("resumed.") and name != "resumed.epochs" for name in run.data.tags
    )


def test_a_run_that_breaks_down_has_failed(client, config):
    with pytest.raises(InputError, match="not finite"):
        train(config.replace(learning_rate=1e30))
    (run,) = runs_of(client)
    assert run.info.status == "FAILED"
