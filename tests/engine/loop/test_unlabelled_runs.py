"""Runs with few labels or none: what the loss is over, how they resume, and what they say."""

import csv
import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import mgd
from engine.loop.test_trainer import CutAt, PowerCutError, rows_of, same_state
from mgd.engine.loop.checkpoint import load_checkpoint
from mgd.engine.loop.meter import AccuracyMeter
from mgd.engine.loop.opening import balance_lines
from mgd.engine.loop.runlog import Reporter
from mgd.engine.loop.trainer import Trainer
from mgd.engine.measure import evaluate_networks
from mgd.engine.options.config import RunConfig
from mgd.engine.run import train
from mgd.engine.tasks import kept_teacher
from mgd.engine.tasks.building import choose_logits
from mgd.engine.tasks.classifier import Classifier
from mgd.engine.tasks.label_term import LabelTerm
from mgd.errors import InputError
from mgd.report.summary import summarize
from mgd.runfolder import read_run
from mgd.views import Preprocess, View

CLASSES = ["nought", "one", "two"]


class Heard(Reporter):
    def __init__(self):
        self.messages = []

    def message(self, text):
        self.messages.append(text)


@pytest.fixture
def more(image_folder, tmp_path, scans):
    """Ten images of the same classes, in a tree of their own."""
    from PIL import Image

    images, labels = scans
    for number, image in enumerate(images[labels < 3][40:50]):
        folder = tmp_path / "more, of them" / str(number % 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    return tmp_path / "more, of them"


@pytest.fixture
def config(image_folder, tmp_path):
    return RunConfig().replace(
        data=str(image_folder), size=8, arch="cifar_resnet8_x0_25", batch_size=8, epochs=2,
        teacher="cifar_resnet8_x0_5", use_pretrained=0, distiller="mgd", mgd_with_kd=1,
        workers=0, print_freq=1, output=str(tmp_path / "runs"),
    )  # fmt: skip


@pytest.fixture
def teacher(config):
    """The weights of a network that knows the classes by name."""
    own = config.replace(distiller="none", teacher="", mgd_with_kd=0, epochs=1, experiment="own")
    return str(train(own).folder / "student.safetensors")


@pytest.fixture
def label_free(config, teacher):
    return config.replace(
        label_free=True, teacher="cifar_resnet8_x0_25", teacher_resume=teacher,
        use_pretrained=None, holdout=0.3,
    )  # fmt: skip


@pytest.mark.parametrize("labels", [[1, -1, 0, -1, -1, 2], [-1] * 6, [0, 1, 2, 0, 1, 2]])
@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_the_cross_entropy_is_a_mean_over_those_with_a_label(labels, weight):
    logits, labels = torch.randn(6, 3), torch.tensor(labels)
    share = float((labels >= 0).float().mean())
    found = LabelTerm(weight).loss(logits, labels, share).mean()
    some = bool((labels >= 0).any())
    expected = weight * F.cross_entropy(logits, labels, ignore_index=-1) if some else 0.0
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_one_label_among_many_images_counts_no_more_than_sixteen_of_them():
    logits, labels = torch.randn(64, 3), torch.tensor([1] + [-1] * 63)
    found = LabelTerm().loss(logits, labels, 1 / 64).mean()
    assert float(found) == pytest.approx(float(F.cross_entropy(logits[:1], labels[:1])) * 16 / 64)


def test_a_step_takes_the_teachers_terms_over_all_and_the_labels_over_theirs(
    config, more, monkeypatch
):
    found = []
    step = Trainer._step

    def spy(self, batches, size, labelled):
        losses = self.task.losses

        def kept(images, labels, share, seen):
            logits, terms = losses(images, labels, share, seen)
            found.append((logits.detach(), labels, terms, share))
            return logits, terms

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.task, "losses", kept)
            step(self, batches, size, labelled)

    monkeypatch.setattr(Trainer, "_step", spy)
    train(config.replace(unlabelled=(str(more),), epochs=1, ce_weight=0.5))
    assert sum(len(labels) for _, labels, _, _ in found) == 28
    assert sum(int((labels >= 0).sum()) for _, labels, _, _ in found) == 18
    for logits, labels, terms, share in found:
        assert share == pytest.approx(float((labels >= 0).float().mean()))
        expected = 0.5 * F.cross_entropy(logits, labels, ignore_index=-1)
        torch.testing.assert_close(terms["ce"].mean(), expected)
        assert all(bool((terms[name] > 0).all()) for name in terms if name != "ce")


def test_the_training_accuracy_is_that_of_images_with_a_label():
    meter = AccuracyMeter(["ce"])
    logits = torch.eye(4)
    meter.update(torch.ones(1, 4), logits, torch.tensor([0, 0, -1, -1]))
    means = meter.compute()
    assert means["train_top1"] == 50.0
    assert means["loss_ce"] == 1.0
    none = AccuracyMeter(["ce"])
    none.update(torch.ones(1, 4), logits, torch.full((4,), -1))
    assert none.compute()["train_top1"] != none.compute()["train_top1"]  # there is none


def test_a_meter_of_version_0_2_goes_on():
    meter = AccuracyMeter(["ce"])
    meter.update(torch.ones(1, 4), torch.eye(4), torch.tensor([0, 1, 0, 0]))
    state = {name: value for name, value in meter.state_dict().items() if name != "num_labelled"}
    later = AccuracyMeter(["ce"])
    later.load_state_dict(state)
    assert later.compute() == meter.compute()


def check_resume(config):
    config = config.replace(epochs=2, checkpoint_every=1)
    whole = train(config.replace(experiment="whole")).folder
    cut = config.replace(experiment="cut", workers=2)
    with pytest.raises(PowerCutError):
        train(cut, CutAt(1, 2))
    torch.manual_seed(12345)
    folder = train(cut.replace(resume="auto")).folder
    states = [load_checkpoint(path / "last.ckpt") for path in (folder, whole)]
    assert same_state(*states) == set()
    assert rows_of(folder) == rows_of(whole)


@pytest.mark.parametrize("batch", [0, 3])
def test_a_resume_inside_an_epoch_and_workers_change_nothing(config, more, batch):
    check_resume(config.replace(unlabelled=(str(more),), unlabelled_batch=batch))


def test_a_label_free_run_resumes_the_same(label_free):
    check_resume(label_free)


def test_the_matching_sees_both_kinds(config, more):
    alone = train(config.replace(epochs=1, experiment="alone")).folder
    both = train(config.replace(epochs=1, experiment="both", unlabelled=(str(more),))).folder
    images = [read_run(folder).points[0].images for folder in (alone, both)]
    assert images == [18, 28]


def test_one_that_is_measured_as_well_is_warned_of(config, image_folder, more, caplog):
    shutil.copy(next((image_folder / "valid" / "two").iterdir()), more / "again.png")
    with caplog.at_level(logging.WARNING):
        train(config.replace(epochs=1, unlabelled=(str(more),)))
    (line,) = (record.getMessage() for record in caplog.records if "again.png" in record.message)
    assert "also among those to measure on: 1" in line
    assert "valid/two" in line


def test_unreadable_ones_end_the_run_or_are_left_out(config, more):
    (more / "bad.png").write_text("no image")
    config = config.replace(unlabelled=(str(more),), epochs=1)
    with pytest.raises(InputError, match=r"cannot read image .*bad\.png"):
        train(config.replace(experiment="one"))
    folder = train(config.replace(experiment="two", skip_bad_images=True)).folder
    assert "bad.png" in (folder / "bad_images.txt").read_text()


def test_a_label_free_run_is_chosen_by_agreement_and_says_so(label_free, image_folder):
    heard = Heard()
    outcome = train(label_free.replace(data=str(image_folder / "train")), heard)
    folder = outcome.folder
    assert any("13 without labels to train, 5 to validate" in text for text in heard.messages) or (
        any("12 without labels to train, 6 to validate" in text for text in heard.messages)
    )
    student, metadata = mgd.load_network(folder / "student.safetensors")
    assert list(metadata.classes) == CLASSES
    assert student is not None
    assert outcome.is_label_free
    assert outcome.teacher is None
    with (folder / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["valid_is_agreement"] for row in rows} == {"1"}
    assert "teacher_top1" not in rows[0]
    result = json.loads((folder / "result.json").read_text())
    assert result["valid_is_agreement"] == 1
    assert result["test_top1"] is None
    run = read_run(folder)
    assert run.is_agreement
    (row,) = summarize([run])
    assert "(agreement with the teacher)" in row.cells()[1]


def test_a_labelled_valid_is_a_test(label_free):
    outcome = train(label_free)
    assert outcome.test.images == outcome.teacher.images == 12
    assert not read_run(outcome.folder).is_agreement


def test_agreement_is_with_the_answers_of_the_teacher(label_free, monkeypatch):
    seen = []
    fit = Trainer.fit

    def spy(self, *rest):
        asked = self.task.classifiers.teacher
        split = self.pipeline.splits.valid
        images = torch.stack([split.image(index) for index in range(len(split))])
        with torch.inference_mode():
            asked.network.eval()
            answers = asked.network(Preprocess(asked.view)(images)).argmax(1)
        seen.append((split.labels, answers.tolist(), self.pipeline.score(asked, "valid").top1))
        fit(self, *rest)

    monkeypatch.setattr(Trainer, "fit", spy)
    train(label_free.replace(epochs=1))
    ((labels, answers, top1),) = seen
    assert labels == answers
    assert top1 == 100.0


def test_classes_that_the_teacher_does_not_know_are_refused(label_free, image_folder, tmp_path):
    (image_folder / "valid" / "two").rename(image_folder / "valid" / "seven")
    with pytest.raises(InputError) as caught:
        train(label_free.replace(experiment="refused"))
    line = str(caught.value)
    assert "does not know the class 'seven'" in line
    assert "3: nought, one, two" in line
    assert "3: nought, one, seven" in line
    assert not (tmp_path / "runs" / "refused").exists()


def test_a_teacher_whose_classes_nobody_knows_is_refused(config, tmp_path):
    with pytest.raises(InputError, match="nothing says which classes the teacher"):
        train(config.replace(label_free=True))
    assert not (tmp_path / "runs").exists()


def test_a_label_free_run_is_measured_on_labelled_images(label_free, image_folder):
    folder = train(label_free.replace(epochs=1)).folder
    measured = RunConfig().replace(
        evaluate=True, label_free=True, data=str(image_folder), workers=0,
        student_resume=str(folder / "student.safetensors"), output=str(folder.parent),
    )  # fmt: skip
    scores, _ = evaluate_networks(measured)
    assert scores["student"].images == 12
    with pytest.raises(InputError, match="has no folder `valid` of classes to measure it on"):
        evaluate_networks(measured.replace(data=str(image_folder / "train")))


@pytest.mark.parametrize(
    ("means", "shown"),
    [
        ({"loss_ce": 1.0}, []),
        ({"loss_ce": 0.0, "loss_kd": 2.0}, []),
        ({"loss_ce": 1.0, "loss_kd": 3.0}, ["labels 25 %, logits 75 %"]),
        ({"loss_ce": 1.0, "loss_mgd_1": 1.0, "loss_mgd_2": 2.0}, ["labels 25 %, features 75 %"]),
        ({"loss_ce": 1.0, "loss_kd": 9.0}, ["labels 10 %, logits 90 %"]),
        (
            {"loss_ce": 1.0, "loss_kd": 19.0},
            ["labels 5 %, logits 95 %", "logits are nearly all of the loss; compare other values"],
        ),
        ({"loss_ce": float("nan"), "loss_kd": 1.0}, []),
    ],
)
def test_the_balance_is_said_in_shares(means, shown):
    lines = list(balance_lines({"loss": 5.0, **means}))
    assert len(lines) == len(shown)
    assert all(part in line for part, line in zip(shown, lines, strict=True))


def test_the_balance_is_said_once(config):
    heard = Heard()
    train(config, heard)
    assert sum(text.startswith("shares of the loss: ") for text in heard.messages) == 1


@pytest.mark.parametrize(
    ("options", "labels", "weight", "said"),
    [
        ({}, 6, 0.94, "the logits teach too, at weight 0.94, with only 6 labels of a class"),
        ({}, 450, 0, "the features teach without the logits, with 450 labels of a class (see "
                     "--mgd-with-kd)"),
        ({"kd_weight": 0.5}, 450, 0.5, ""),
        ({"kd_weight": 0.0}, 6, 0, ""),
        ({"mgd_with_kd": 1}, 450, 1, ""),
        ({"mgd_with_kd": 0}, 6, 0, ""),
        ({"mgd_with_kd": 0, "distiller": "kd"}, 450, 1, ""),
        ({"unlabelled": ()}, 6, 0, ""),
    ],
)  # fmt: skip
def test_the_labels_decide_whether_the_logits_teach(config, options, labels, weight, said):
    config = config.replace(**{"mgd_with_kd": None, "unlabelled": ("more",), **options})
    teacher = Classifier("any", torch.nn.Identity(), View(), "", "")
    chosen, line = choose_logits(config, teacher, labels)
    assert (chosen.distillation.logit_weight, line) == (pytest.approx(weight), said)


HALF = "labels and logits weigh 0.5 each, with 450 labels of a class (see --ce-weight)"
FULL = "labels and logits weigh 1 each, with 6 labels of a class (see --ce-weight)"


@pytest.mark.parametrize("distiller", ["mgd", "mgd-adapter", "ofd"])
@pytest.mark.parametrize(("labels", "weight", "said"), [(6, 1, FULL), (450, 0.5, HALF)])
def test_logits_beside_the_features_count_in_full_where_labels_are_few(
    config, distiller, labels, weight, said
):
    config = config.replace(mgd_with_kd=1, distiller=distiller)
    teacher = Classifier("any", torch.nn.Identity(), View(), "", "")
    chosen, line = choose_logits(config, teacher, labels)
    options = chosen.distillation
    assert (options.label_weight, options.logit_weight, line) == (weight, weight, said)


@pytest.mark.parametrize(
    ("options", "weights", "said"),
    [
        ({}, (0.5, 0.5), HALF),
        ({"distiller": "mgd-adapter"}, (0.5, 0.5), HALF),
        ({"ce_weight": 1}, (1, 1), ""),
        ({"ce_weight": 0}, (0, 1), ""),
        ({"kd_weight": 0.3}, (1, 0.3), ""),
        ({"unlabelled": ("more",)}, (1, 1), ""),
        ({"label_free": True}, (1, 1), ""),
        ({"distiller": "kd"}, (1, 1), ""),
        ({"mgd_with_kd": 0}, (1, 0), ""),
        ({"mgd_with_kd": None}, (1, 0), ""),
        ({"distiller": "none"}, (1, 0), ""),
    ],
)  # fmt: skip
def test_logits_beside_the_features_share_the_weight_of_the_labels(config, options, weights, said):
    config = config.replace(**{"mgd_with_kd": 1, **options})
    teacher = Classifier("any", torch.nn.Identity(), View(), "", "")
    chosen, line = choose_logits(config, teacher, labels_per_class=450)
    options = chosen.distillation
    assert (options.label_weight, options.logit_weight) == pytest.approx(weights)
    assert line == said


def test_a_run_says_that_its_logits_teach_and_keeps_the_options_as_given(config, more):
    heard = Heard()
    folder = train(config.replace(mgd_with_kd=None, unlabelled=(str(more),)), heard).folder
    assert "loss_kd" in rows_of(folder)[0]
    assert sum("at weight 0.94, with only 6 labels" in line for line in heard.messages) == 1
    options = read_run(folder).options
    assert (options["mgd-with-kd"], options["kd-weight"]) == (None, "auto")
    going_on = config.replace(
        mgd_with_kd=None, unlabelled=(str(more),), epochs=3, resume="auto", experiment=folder.name
    )
    assert len(rows_of(train(going_on).folder)) == 3


def test_a_teacher_of_other_classes_teaches_by_its_features_alone(config, more, label_free):
    for part in ("train", "valid"):
        folder = Path(config.data.data) / part
        (folder / "two").rename(folder / "a pair")
    options = {"mgd_with_kd": None, "unlabelled": (str(more),), "epochs": 1}
    names = {name: getattr(label_free.networks, name) for name in ("teacher", "teacher_resume")}
    outcome = train(config.replace(**options, **names, use_pretrained=None))
    (row,) = rows_of(outcome.folder)
    assert "loss_kd" not in row
    assert float(row["loss_mgd_1"]) > 0


def test_a_teacher_rests_with_images_without_labels_as_well(config, more, monkeypatch):
    asked = []

    def spy(distiller, images):
        asked.append(len(images))
        return mgd.method.answers.ask_teacher(distiller, images)

    monkeypatch.setattr(kept_teacher, "ask_teacher", spy)
    options = {"teacher_views": 1, "epochs": 2}
    alone = {"distiller": "none", "arch": config.networks.teacher, "experiment": "teacher"}
    teacher = train(config.replace(**alone, epochs=1)).folder
    train(config.replace(unlabelled=(str(more),), **options))
    assert sum(asked) == 18 + 10
    asked.clear()
    train(config.replace(data=str(more), label_free=True, teacher_resume=str(teacher), **options))
    assert sum(asked) == 9
