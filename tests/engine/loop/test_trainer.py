"""Runs: what they leave behind, and that a resumed one ends as if nothing had happened."""

import csv
import json
import logging
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import mgd
from mgd.engine.loop.checkpoint import checksum, load_checkpoint
from mgd.engine.loop.runlog import Reporter
from mgd.engine.run import train
from mgd.engine.tasks.distillation import DistillationTask
from mgd.errors import InputError
from mgd.views import Preprocess

pytestmark = pytest.mark.usefixtures("few_digits")

TIMES = ("images_per_s", "data_wait", "seconds")
TERMS = ["loss_ce", "loss_kd", "loss_mgd_1", "loss_mgd_2", "loss_mgd_3"]


class PowerCutError(Exception):
    """The power is cut."""


class CutAt(Reporter):
    """Cuts the power at a step of an epoch, or at the epoch's end."""

    def __init__(self, epoch, step=None):
        self.at, self.epoch = (epoch, step), 0

    def start_epoch(self, epoch, epochs, steps, done):
        self.epoch = epoch

    def step(self, done, values):
        if (self.epoch, done) == self.at:
            raise PowerCutError

    def end_epoch(self, record):
        if (record.epoch, None) == self.at:
            raise PowerCutError


def rows_of(folder, without=TIMES):
    with (folder / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: text for name, text in row.items() if name not in without} for row in rows]


def test_a_base_run_leaves_a_whole_folder(fast_run):
    outcome = train(fast_run.replace(tensorboard=1))
    folder = outcome.folder
    assert folder.name == "cifar_resnet8_x0_25-base"
    assert {file.name for file in folder.iterdir()} == {
        ".lock", "args.yaml", "environment.json", "summary.csv", "result.json", "tensorboard",
        "last.ckpt", "best.ckpt", "previous.ckpt", "student.safetensors", "answers.csv",
        "thumbnails.json", "MODEL_CARD.md",
    }  # fmt: skip
    rows = rows_of(folder, without=())
    assert list(rows[0]) == [
        "epoch", "lr", "loss", "loss_ce", "train_top1", "valid_loss", "valid_top1", "valid_top5",
        *TIMES,
    ]  # fmt: skip
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert all(text for row in rows for text in row.values())
    assert yaml.safe_load((folder / "args.yaml").read_text()) == (
        fast_run.replace(tensorboard=1).flat()
    )
    assert list((folder / "tensorboard").iterdir())


def test_the_result_is_of_the_best_epoch_on_the_test_part(fast_run, few_digits):
    outcome = train(fast_run)
    rows = rows_of(outcome.folder)
    best = max(reversed(rows), key=lambda row: float(row["valid_top1"]))
    result = json.loads((outcome.folder / "result.json").read_text())
    assert result["best_epoch"] == outcome.best["epoch"] == int(best["epoch"])
    assert result["valid_top1"] == float(best["valid_top1"])
    student = stock_student(outcome.folder)
    guesses = guesses_of(student, few_digits.test)
    right = (guesses == torch.tensor(few_digits.test.labels)).sum()
    assert result["test_top1"] == pytest.approx(100 * int(right) / 60)
    assert result["teacher_top1"] is None
    size = sum(p.numel() for p in student.parameters())
    assert outcome.trained_parameters == result["student_parameters"] == size
    assert result["teacher_parameters"] is None


@pytest.mark.usefixtures("few_digits")
@pytest.mark.parametrize("fold", [0, 1])
def test_the_result_knows_the_size_of_both_networks(fast_distillation, fold):
    """A folded teacher has biases more, which nobody would have to store."""
    folder = train(fast_distillation.replace(epochs=1, fold_teacher=fold)).folder
    result = json.loads((folder / "result.json").read_text())
    for role, name in (("student", "cifar_resnet8_x0_25"), ("teacher", "cifar_resnet8_x0_5")):
        network = mgd.create_model(name, 10)
        assert result[f"{role}_parameters"] == sum(p.numel() for p in network.parameters())
    assert result["trained_parameters"] > result["student_parameters"]  # with norms of the points


def stock_student(folder):
    network = mgd.create_model("cifar_resnet8_x0_25", 10)
    network.load_state_dict(load_file(folder / "student.safetensors"), strict=True)
    return network.eval()


@torch.inference_mode()
def guesses_of(network, split):
    images = torch.stack([split.image(index) for index in range(len(split))])
    return network(Preprocess(mgd.View(size=8))(images)).argmax(1)


def test_the_exported_student_is_that_of_the_best_checkpoint(fast_distillation):
    folder = train(fast_distillation).folder
    saved = load_checkpoint(folder / "best.ckpt")["student"]
    plain = load_file(folder / "student.safetensors")
    assert list(plain) != []
    assert plain.keys() == saved.keys()
    assert all(torch.equal(plain[name], saved[name]) for name in plain)
    stock = mgd.create_model("cifar_resnet8_x0_25", 10).eval()
    stock.load_state_dict(saved)
    images = torch.randn(4, 3, 8, 8)
    assert torch.equal(stock(images), stock_student(folder)(images))


def test_a_distilled_run_logs_every_term(fast_distillation):
    folder = train(fast_distillation).folder
    for row in rows_of(folder):
        terms = [float(row[name]) for name in TERMS]
        assert all(term > 0 for term in terms)
        assert float(row["loss"]) == pytest.approx(sum(terms))
        assert float(row["teacher_top1"]) >= 0
        assert 0 <= float(row["matching_cost"]) <= 4
        assert 0 <= float(row["matching_churn"]) <= 1
    points = json.loads((folder / "matching.json").read_text())["points"]
    assert [len(point["matching"][0]) for point in points] == [4, 8, 16]
    for point in points:
        taken = [channel for group in point["matching"] for channel in group]
        assert sorted(taken) == list(range(point["teacher_channels"]))


def test_the_distillers_own_norms_are_trained_and_saved_but_not_the_teacher(fast_distillation):
    saved = load_checkpoint(train(fast_distillation).folder / "last.ckpt")
    assert not any("teacher" in name for name in saved["distiller"])
    assert any(name.endswith("norm.weight") for name in saved["distiller"])
    assert any(name.endswith("matcher.matching") for name in saved["distiller"])


def same_state(one, other):
    """Compares two checkpoints bit by bit, the options aside."""
    names = set(one) - {"config"}
    assert names == set(other) - {"config"}
    return {name for name in names if checksum(one[name]) != checksum(other[name])}


CUTS = [
    pytest.param({}, CutAt(0), id="after the first epoch"),
    pytest.param({}, CutAt(1, 1), id="early in an epoch"),
    pytest.param({"checkpoint_every": 1}, CutAt(0, 3), id="in the first epoch"),
    pytest.param({"checkpoint_every": 2}, CutAt(1, 3), id="between two checkpoints"),
]


@pytest.fixture(scope="module")
def uninterrupted():
    """Outcomes of whole runs by what decides them, so that each is run once."""
    return {}


def check_resume(config, reporter, known):
    """Runs to the end at once, and in two goes; both must end the same."""
    config = config.replace(epochs=3, print_freq=1, lr_schedule="cosine", warmup=1, warmup_epochs=1)
    decides = config.distillation
    if decides not in known:
        folder = train(config.replace(experiment="whole", workers=0, checkpoint_every=0)).folder
        known[decides] = load_checkpoint(folder / "last.ckpt"), rows_of(folder)
    whole_state, whole_rows = known[decides]
    cut = config.replace(experiment="cut")
    with pytest.raises(PowerCutError):
        train(cut, reporter)
    torch.manual_seed(12345)  # whatever the new process has drawn
    folder = train(cut.replace(resume="auto")).folder
    assert same_state(load_checkpoint(folder / "last.ckpt"), whole_state) == set()
    assert rows_of(folder) == whole_rows
    assert [row["epoch"] for row in whole_rows] == ["0", "1", "2", "3"]


@pytest.mark.parametrize(("options", "reporter"), CUTS)
def test_a_resumed_run_ends_bit_identical(fast_distillation, uninterrupted, options, reporter):
    config = fast_distillation.replace(mgd_reducer="rd", mgd_update_freq=2, **options)
    check_resume(config, reporter, uninterrupted)


def test_workers_and_a_resume_change_nothing(fast_distillation, uninterrupted):
    config = fast_distillation.replace(
        mgd_reducer="rd", mgd_update_freq=2, workers=1, checkpoint_every=1
    )
    check_resume(config, CutAt(1, 2), uninterrupted)


def test_random_matchings_are_redrawn_the_same(fast_distillation, uninterrupted):
    config = fast_distillation.replace(mgd_solver="random", mgd_update_freq=1)
    check_resume(config, CutAt(0), uninterrupted)


@pytest.mark.parametrize(("method", "kd"), [("ofd", "dkd"), ("fitnet", "dist")])
def test_baselines_resume_with_what_they_learned(fast_distillation, uninterrupted, method, kd):
    config = fast_distillation.replace(distiller=method, kd=kd, loss_factor=1e4, checkpoint_every=1)
    check_resume(config, CutAt(1, 2), uninterrupted)


UPDATES = {
    **{"train_images": 50, "batch_size": 10, "grad_accum_steps": 2, "clip_grad_norm": 1.0},
    **{"norm_weight_decay": 0.0, "bias_weight_decay": 0.0, "model_ema": True},
    **{"model_ema_decay": 0.9, "patience": 50},
}
"""Three steps an epoch, of two, two and one batches."""


@pytest.mark.parametrize(
    "optimizer", [{"opt": "sgd"}, {"opt": "adamw", "learning_rate": 1e-3}], ids=["sgd", "adamw"]
)
@pytest.mark.parametrize("cut", [CutAt(0), CutAt(1, 2), CutAt(2, 3)])
def test_every_way_to_update_the_weights_is_resumed(fast_distillation, optimizer, cut):
    config = fast_distillation.replace(**UPDATES, **optimizer, checkpoint_every=1)
    check_resume(config, cut, {})


def test_two_cuts_in_one_run(fast_run):
    config = fast_run.replace(epochs=3, print_freq=1, checkpoint_every=1, experiment="run")
    whole = train(config.replace(experiment="whole")).folder
    with pytest.raises(PowerCutError):
        train(config, CutAt(0, 2))
    for reporter in (CutAt(0, 3), CutAt(2, 2)):
        with pytest.raises(PowerCutError):
            train(config.replace(resume="auto"), reporter)
    outcome = train(config.replace(resume="auto"))
    folder = outcome.folder
    assert rows_of(folder) == rows_of(whole)
    states = [load_checkpoint(path / "last.ckpt") for path in (folder, whole)]
    assert same_state(*states) == set()
    epochs = [float(row["seconds"]) for row in rows_of(folder, without=())]
    assert outcome.seconds >= sum(epochs)


def test_a_finished_run_resumed_is_left_as_it_was(fast_run):
    folder = train(fast_run).folder
    before = rows_of(folder, without=())
    outcome = train(fast_run.replace(resume="auto"))
    assert outcome.folder == folder
    assert rows_of(folder, without=()) == before


def test_more_epochs_can_be_added(fast_run):
    folder = train(fast_run.replace(epochs=1)).folder
    assert train(fast_run.replace(resume="auto")).folder == folder
    assert [row["epoch"] for row in rows_of(folder)] == ["0", "1"]
    assert rows_of(folder) == rows_of(train(fast_run.replace(experiment="whole")).folder)


def test_a_damaged_checkpoint_costs_an_epoch_not_the_run(fast_run, caplog):
    whole = train(fast_run.replace(experiment="whole")).folder
    folder = train(fast_run.replace(experiment="run")).folder
    last = folder / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-100])
    with caplog.at_level(logging.WARNING):
        train(fast_run.replace(experiment="run", resume="auto"))
    assert "last.ckpt' is damaged" in caplog.text
    assert rows_of(folder) == rows_of(whole)
    states = [load_checkpoint(path / "last.ckpt") for path in (folder, whole)]
    assert same_state(*states) == set()


def test_a_checkpoint_given_by_name_goes_on_in_its_folder(fast_run):
    with pytest.raises(PowerCutError):
        train(fast_run.replace(experiment="run"), CutAt(0))
    checkpoint = f"{fast_run.output.output}/run/last.ckpt"
    outcome = train(fast_run.replace(resume=checkpoint))
    assert outcome.folder.name == "run"
    assert [row["epoch"] for row in rows_of(outcome.folder)] == ["0", "1"]


@pytest.mark.parametrize(
    "files", [("last.ckpt",), ("last.ckpt", "best.ckpt", "student.safetensors")]
)
def test_a_checkpoint_goes_on_in_another_folder(fast_run, tmp_path, files):
    """With the best epoch, which may stay the best, or with the checkpoint alone."""
    folder = train(fast_run.replace(experiment="run")).folder
    (tmp_path / "copy").mkdir()
    for name in files:
        (tmp_path / "copy" / name).write_bytes((folder / name).read_bytes())
    config = fast_run.replace(resume=str(tmp_path / "copy" / "last.ckpt"), experiment="other")
    outcome = train(config.replace(epochs=3, learning_rate=1e-12))
    assert (outcome.folder / "best.ckpt").exists()
    if len(files) == 1:
        assert outcome.best["epoch"] == 2
    assert train(config.replace(experiment="third")).test.images == 60  # nothing left to train


def test_resume_auto_without_a_run_starts_one(fast_run):
    assert len(rows_of(train(fast_run.replace(resume="auto")).folder)) == 2


def matchings(folder):
    saved = load_checkpoint(folder / "last.ckpt")["distiller"]
    return torch.cat([saved[key].flatten() for key in saved if key.endswith("matcher.matching")])


@pytest.mark.parametrize(("every", "updates"), [(0, [0]), (1, [0, 1, 2, 3]), (2, [0, 2])])
def test_the_matching_is_updated_on_schedule(fast_distillation, every, updates):
    seen = []

    class Watch(Reporter):
        def end_epoch(self, record):
            seen.append((record.matching_cost, record.matching_churn))

    config = fast_distillation.replace(epochs=4, mgd_update_freq=every)
    folder = train(config, Watch()).folder
    changes = [0] + [epoch for epoch in range(1, 4) if seen[epoch] != seen[epoch - 1]]
    assert changes == updates
    told = json.loads((folder / "matching.json").read_text())
    assert told["epoch"] == updates[-1]
    kept = [channel for point in told["points"] for group in point["matching"] for channel in group]
    assert matchings(folder).tolist() == kept


def test_a_later_first_epoch_is_matched_before_it(fast_distillation, caplog):
    config = fast_distillation.replace(start_epoch=1, mgd_update_freq=0)
    folder = train(config).folder
    assert [row["epoch"] for row in rows_of(folder)] == ["1"]
    assert json.loads((folder / "matching.json").read_text())["epoch"] == 1
    assert "mgd.update_matching" not in caplog.text


def test_nothing_left_to_train_is_an_error(fast_run, tmp_path):
    with pytest.raises(InputError, match=r"`start_epoch` \(=2\)"):
        train(fast_run.replace(start_epoch=2))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("arch", "cifar_resnet8_x0_5"),
        ("distiller", "none"),
        ("teacher", "cifar_resnet8"),
        ("mgd_reducer", "sm"),
        ("mgd_with_kd", 0),
        ("batch_size", 5),
        ("grad_accum_steps", 2),
        ("opt", "adamw"),
        ("norm_weight_decay", 0.0),
        ("bias_weight_decay", 0.0),
        ("model_ema", True),
    ],
)
def test_a_checkpoint_of_another_method_is_refused(fast_distillation, option, value):
    config = fast_distillation.replace(experiment="run", epochs=1)
    folder = train(config).folder
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    flag = option.replace("_", "-")
    with pytest.raises(InputError, match=f"the checkpoint was made with --{flag} "):
        train(config.replace(resume="auto", **{option: value}))
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_a_checkpoint_of_other_data_is_refused(fast_run, image_folder):
    config = fast_run.replace(experiment="run", epochs=1)
    train(config)
    with pytest.raises(InputError, match="checkpoint"):
        train(config.replace(resume="auto", data=str(image_folder), train_images=0))


def test_a_checkpoint_of_other_points_is_refused(fast_distillation, tmp_path):
    config = fast_distillation.replace(experiment="run", epochs=1)
    train(config)
    (tmp_path / "points.yaml").write_text("- {teacher: layer3.0.relu, student: layer3.0.relu}\n")
    with pytest.raises(InputError, match="checkpoint"):
        train(config.replace(resume="auto", points=str(tmp_path / "points.yaml")))


def test_a_named_run_is_never_overwritten(fast_run):
    folder = train(fast_run.replace(experiment="run")).folder
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(InputError, match=r"run' holds a run already; go on with --resume auto"):
        train(fast_run.replace(experiment="run", seed=1))
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_runs_without_a_name_are_numbered_and_the_newest_goes_on(fast_run):
    name = "cifar_resnet8_x0_25-base"
    config = fast_run.replace(epochs=1)
    names = [train(config).folder.name for _ in range(3)]
    assert names == [name, f"{name}-2", f"{name}-3"]
    assert train(fast_run.replace(resume="auto")).folder.name == f"{name}-3"


def test_the_loss_falls_and_the_student_learns(fast_run):
    config = fast_run.replace(epochs=6, train_images=600, batch_size=30, augment="none")
    folder = train(config).folder
    rows = rows_of(folder)
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"]) / 2
    assert max(float(row["valid_top1"]) for row in rows) > 80  # 93 to 95 for seeds 0 to 3


@pytest.mark.parametrize("every", [0, 1])
@pytest.mark.parametrize("freq", [1, 100])
def test_a_loss_that_is_no_number_stops_the_run(fast_distillation, monkeypatch, every, freq):
    """From the second epoch on; the last checkpoint is from before and is named."""
    losses = DistillationTask.losses
    calls = []

    def failing(self, *batch):
        logits, terms = losses(self, *batch)
        calls.append(1)
        if len(calls) > 4:
            terms["kd"] = terms["kd"] * float("nan")
        return logits, terms

    monkeypatch.setattr(DistillationTask, "losses", failing)
    config = fast_distillation.replace(experiment="run", checkpoint_every=every, print_freq=freq)
    with pytest.raises(
        InputError, match=r"not finite at epoch 1, step 2 \(.*loss_kd.*\)"
    ) as caught:
        train(config)
    assert "last.ckpt" in str(caught.value)
    folder = Path(config.output.output) / "run"
    saved = load_checkpoint(folder / "last.ckpt")
    assert saved["epoch"] == 1
    assert saved["meter"]["sums"].isfinite().all()
    assert all(value.isfinite().all() for value in saved["student"].values())
    assert len(rows_of(folder)) == 1


@pytest.mark.parametrize(
    ("options", "terms"),
    [
        ({"distiller": "kd", "mgd_with_kd": 0}, ["loss_ce", "loss_kd"]),
        ({"distiller": "none"}, ["loss_ce"]),
        ({"mgd_with_kd": 0}, ["loss_ce", *TERMS[2:]]),
        ({"mgd_solver": "random", "mgd_update_freq": 0}, TERMS),
        ({"mgd_reducer": "sp"}, TERMS),
        ({"mgd_reducer": "sm"}, TERMS),
        ({"distiller": "ofd"}, [name.replace("mgd", "ofd") for name in TERMS]),
        ({"distiller": "fitnet"}, [name.replace("mgd", "fitnet") for name in TERMS]),
        ({"points": "auto"}, TERMS),
        ({"holdout": 0.1}, TERMS),
        ({"precision": "bf16"}, TERMS),
        ({"channels_last": True}, TERMS),
    ],
)
def test_every_method_runs_and_says_what_it_did(fast_distillation, options, terms, caplog):
    with caplog.at_level(logging.WARNING, logger="mgd"):
        folder = train(fast_distillation.replace(epochs=1, **options)).folder
    (row,) = rows_of(folder)
    assert [name for name in row if name.startswith("loss_")] == terms
    assert ("matching_cost" in row) == ("loss_mgd_1" in terms)
    assert (folder / "matching.json").exists() == ("loss_mgd_1" in terms)
    assert "mgd.update_matching" not in caplog.text


def test_a_folder_of_images_is_learned(fast_run, image_folder):
    outcome = train(
        fast_run.replace(data=str(image_folder), train_images=0, augment="none", epochs=12)
    )
    assert outcome.test is None
    assert outcome.best["top1"] > 60


def test_one_value_per_channel_of_a_batchnorm_is_a_batch_too_small(fast_run):
    config = fast_run.replace(arch="mobilenet_v2", size=32, batch_size=1)
    with pytest.raises(InputError, match="--batch-size to at least 2 for each process"):
        train(config)


def test_another_error_of_a_step_stays_what_it_is(fast_run, monkeypatch):
    def broken(task, *given):
        raise ValueError("of the network's own")

    monkeypatch.setattr("mgd.engine.tasks.supervised.SupervisedTask.losses", broken)
    with pytest.raises(ValueError, match="of the network's own"):
        train(fast_run)
