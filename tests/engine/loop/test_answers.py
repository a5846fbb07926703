"""Answers that a run keeps: what its networks say of every image, asked once."""

import io
from collections import Counter

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import mgd
from engine.loop.test_trainer import CutAt, PowerCutError
from mgd.data.decode import decode
from mgd.data.splits import TensorSplit
from mgd.engine.loop.answers import SIDE, thumbnail
from mgd.engine.loop.checkpoint import save_weights
from mgd.engine.loop.pipeline import Pipeline
from mgd.engine.run import train
from mgd.runfolder import read_answers, read_thumbnails
from mgd.views import Preprocess

STUDENT, TEACHER = "cifar_resnet8_x0_25", "cifar_resnet8_x0_5"
NAMES = ["nought", "one", "two"]
SEEN = mgd.View(size=8, crop="squash", crop_pct=1.0)


@pytest.fixture
def teacher(tmp_path):
    """Makes a teacher of random weights for classes; returns it and its file."""

    def make(classes):
        torch.manual_seed(1)
        network = mgd.create_model(TEACHER, len(classes))
        torch.nn.init.normal_(network.linear.weight)  # far from one answer to all
        path = tmp_path / "teacher.safetensors"
        save_weights(network, path, mgd.Metadata(arch=TEACHER, classes=tuple(classes), view=SEEN))
        return network.eval(), str(path)

    return make


def student_of(folder, num_classes):
    network = mgd.create_model(STUDENT, num_classes)
    network.load_state_dict(load_file(folder / "student.safetensors"), strict=True)
    return network.eval()


@torch.inference_mode()
def said(network, images):
    """Returns the class and the probability of each image."""
    found = network(Preprocess(SEEN)(torch.stack(images))).softmax(1).max(1)
    return found.indices.tolist(), found.values.tolist()


def check(answers, network, images, classes, whose):
    numbers, shares = said(network, images)
    assert [getattr(each, whose) for each in answers] == [classes[number] for number in numbers]
    kept = [getattr(each, f"{whose}_probability") for each in answers]
    assert kept == pytest.approx(shares, abs=2e-5)


def test_answers_to_the_test_part_are_what_the_networks_say(
    fast_distillation, few_digits, teacher, monkeypatch
):
    network, file = teacher(few_digits.classes)
    passes, score = Counter(), Pipeline.score
    monkeypatch.setattr(
        Pipeline,
        "score",
        lambda self, classifier, part, **options: (
            passes.update([(classifier.name, part)]) or score(self, classifier, part, **options)
        ),
    )
    outcome = train(fast_distillation.replace(teacher_resume=file))
    answers, test = read_answers(outcome.folder), few_digits.test
    images = [test.image(index) for index in range(len(test))]
    assert [each.image for each in answers] == [test.name(index) for index in range(60)]
    assert [each.label for each in answers] == [str(label) for label in test.labels]
    check(answers, student_of(outcome.folder, 10), images, few_digits.classes, "student")
    check(answers, network, images, few_digits.classes, "teacher")
    right = sum(each.student == each.label for each in answers)
    assert outcome.test.top1 == pytest.approx(100 * right / 60)
    assert passes[STUDENT, "test"] == passes[TEACHER, "test"] == 1
    assert len({each.teacher for each in answers}) > 1


def valid_images(image_folder):
    files = sorted((image_folder / "valid").rglob("*.png"))
    return files, [decode(str(file)) for file in files]


def test_without_a_test_part_they_are_those_to_the_validation_images(
    fast_distillation, image_folder, teacher
):
    network, file = teacher(NAMES)
    config = fast_distillation.replace(data=str(image_folder), train_images=0, teacher_resume=file)
    folder = train(config.replace(epochs=3)).folder
    answers, (files, images) = read_answers(folder), valid_images(image_folder)
    assert [each.image for each in answers] == [
        file.relative_to(image_folder).as_posix() for file in files
    ]
    assert [each.label for each in answers] == [file.parent.name for file in files]
    check(answers, student_of(folder, 3), images, NAMES, "student")
    check(answers, network, images, NAMES, "teacher")


def test_a_run_without_a_teacher_has_none_of_its_answers(fast_run, image_folder):
    folder = train(fast_run.replace(data=str(image_folder), train_images=0, epochs=1)).folder
    assert {(a.teacher, a.teacher_probability) for a in read_answers(folder)} == {(None, None)}


def test_a_run_without_labels_keeps_what_the_teacher_says(
    fast_distillation, image_folder, teacher, tmp_path
):
    network, file = teacher(NAMES)
    (image_folder / "valid").rename(tmp_path / "elsewhere")
    config = fast_distillation.replace(
        data=str(image_folder), train_images=0, teacher_resume=file, label_free=True, holdout=0.4
    )
    outcome = train(config)
    answers = read_answers(outcome.folder)
    images = [decode(str(image_folder / each.image)) for each in answers]
    assert len(images) == 7
    assert {each.label for each in answers} == {None}
    check(answers, student_of(outcome.folder, 3), images, NAMES, "student")
    check(answers, network, images, NAMES, "teacher")
    same = sum(each.student == each.teacher for each in answers)
    assert outcome.best["top1"] == pytest.approx(100 * same / 7)


def test_two_ranks_keep_the_answers_in_the_order_of_the_images(
    fast_distillation, image_folder, teacher, free_port, forked_ranks
):
    network, file = teacher(NAMES)
    (image_folder / "valid" / "two" / "9.png").unlink()  # one rank has an image less
    config = fast_distillation.replace(
        data=str(image_folder), train_images=0, teacher_resume=file, epochs=1, devices=2,
        dist_url=f"tcp://localhost:{free_port}",
    )  # fmt: skip
    folder = train(config).folder
    answers, (files, images) = read_answers(folder), valid_images(image_folder)
    assert [each.image.rpartition("/")[2] for each in answers] == [file.name for file in files]
    check(answers, student_of(folder, 3), images, NAMES, "student")
    check(answers, network, images, NAMES, "teacher")


@pytest.mark.usefixtures("few_digits")
def test_a_resumed_run_keeps_the_same_answers(fast_distillation):
    config = fast_distillation.replace(checkpoint_every=1, print_freq=1)
    whole = train(config.replace(experiment="whole")).folder
    with pytest.raises(PowerCutError):
        train(config.replace(experiment="cut"), CutAt(1, 2))
    assert read_answers(whole.parent / "cut") == []
    cut = train(config.replace(experiment="cut", resume="auto")).folder
    assert read_answers(cut) == read_answers(whole) != []
    assert read_thumbnails(cut) == read_thumbnails(whole) != {}


def test_there_are_small_pictures_of_what_the_report_shows(fast_run, few_digits):
    folder = train(fast_run.replace(epochs=1)).folder
    wrong = [each for each in read_answers(folder) if each.student != each.label]
    found = read_thumbnails(folder)
    assert 0 < len(found) <= 12
    assert set(found) <= {each.image for each in wrong}
    assert (folder / "thumbnails.json").stat().st_size < 300_000


def test_a_small_image_is_kept_to_the_last_bit():
    image = torch.randint(256, (3, 20, 32), dtype=torch.uint8)
    picture = Image.open(io.BytesIO(thumbnail(TensorSplit(image[None], [0]), 0)))
    assert torch.equal(
        torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(20, 32, 3),
        image.permute(1, 2, 0),
    )


def test_a_large_image_becomes_small_and_keeps_its_shape():
    noise = torch.randint(256, (1, 3, 300, 600), dtype=torch.uint8)
    content = thumbnail(TensorSplit(noise, [0]), 0)
    assert Image.open(io.BytesIO(content)).size == (SIDE, SIDE // 2)
    assert len(content) < 8_000  # 24 of them, in base64, are less than 300 kB
    thin = thumbnail(TensorSplit(noise[:, :, :1], [0]), 0)
    assert Image.open(io.BytesIO(thin)).size == (SIDE, 1)
