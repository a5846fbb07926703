"""What a run says before it starts: its networks, and what it warns of."""

import pytest
import torch
from torch import nn

import mgd
from mgd.data.splits import Splits, TensorSplit
from mgd.engine.loop.evaluation import Scores, evaluate
from mgd.engine.loop.opening import chance_warning, enlarging_warning, held, opening_lines
from mgd.engine.tasks.classifier import Classifier
from mgd.engine.tasks.classifiers import Classifiers
from mgd.errors import InputError


def classifier(size=224, name="net", **options):
    view = mgd.View(size=size)
    return Classifier(name, nn.Identity(), view, "random weights", "made up", **options)


def warning(top1, counts):
    """Of a teacher with this accuracy, in percent, on so many images of each class."""
    scores = Scores(1.0, top1, 100.0, sum(counts), 1.0, tuple((0, count) for count in counts))
    return chance_warning(classifier(), scores)


def test_a_teacher_that_always_answers_the_same_is_warned_of():
    assert warning(25.0, [25, 25, 25, 25]) == (
        "WARNING: the teacher net (random weights) is no better than chance: Acc@1 25.0, where "
        "always the same class gives 25.0. It has nothing to teach: check its weights, and the "
        "order of its classes"
    )


@torch.no_grad()
@pytest.mark.parametrize("seed", range(5))
def test_a_random_teacher_is_warned_of(seed):
    dice = torch.Generator().manual_seed(seed)
    labels = torch.arange(200) % 4
    answers = nn.functional.one_hot(torch.randint(4, (200,), generator=dice), 4).float()
    network = nn.Sequential(nn.Flatten(), nn.Identity())
    network.forward = lambda images: answers
    asked = Classifier("net", network, mgd.View(size=2), "a file", "made up")
    batch = torch.zeros(200, 3, 2, 2, dtype=torch.uint8), labels
    scores = evaluate(asked, [batch], 4, torch.device("cpu"))
    assert "no better than chance" in chance_warning(asked, scores)


def test_chance_is_allowed_for_two_standard_errors():
    """Of 100 images, half of either class, 10 percent."""
    assert warning(60.0, [50, 50])
    assert not warning(61.0, [50, 50])


def test_chance_is_the_most_frequent_class():
    assert warning(90.0, [90, 10])
    assert not warning(97.0, [90, 10])


@pytest.mark.parametrize("counts", [[1], [1, 0, 0], [3, 0], [1, 1]])
def test_a_teacher_that_is_always_right_is_never_warned_of(counts):
    """However few images there are."""
    assert not warning(100.0, counts)


def test_a_wrong_answer_on_a_single_image_is_no_better_than_chance():
    assert warning(0.0, [1, 0])


class Sizes(TensorSplit):
    """Images of given heights and widths; 0 cannot be read."""

    def __init__(self, *sizes):
        self.sizes, self.labels, self.read = sizes, [0] * len(sizes), []

    def image(self, index):
        self.read.append(index)
        height, width = self.sizes[index]
        if not height:
            raise InputError("no image")
        return torch.zeros(3, height, width, dtype=torch.uint8)


def test_images_that_are_enlarged_more_than_twice_are_warned_of():
    split = Sizes((32, 40), (32, 40))
    assert enlarging_warning(split, [classifier(64), classifier(32)]) == ""
    assert enlarging_warning(split, [classifier(65, "big"), classifier(32, "small")]) == (
        "the images are 32 px (median of 2), and are enlarged more than twice: big sees them at "
        "65 px, 4 times the pixels; a smaller `size` or `teacher_size` is faster, and so is a "
        "network for small images, such as cifar_resnet20"
    )


def test_every_network_that_enlarges_is_named():
    text = enlarging_warning(Sizes((32, 32)), [classifier(224, "one"), classifier(96, "two")])
    assert "one sees them at 224 px, 49 times the pixels; two sees them at 96 px, 9 times" in text


def test_the_median_of_the_shorter_sides_counts():
    mostly_large = Sizes((200, 300), (300, 200), (8, 8))
    assert enlarging_warning(mostly_large, [classifier(224)]) == ""
    mostly_small = Sizes((20, 3000), (3000, 20), (900, 900))
    assert "are 20 px (median of 3)" in enlarging_warning(mostly_small, [classifier(224)])


def test_images_that_cannot_be_read_are_left_to_whoever_loads_them():
    assert "are 8 px (median of 1)" in enlarging_warning(Sizes((0, 0), (8, 8)), [classifier()])
    assert enlarging_warning(Sizes((0, 0)), [classifier()]) == ""


@pytest.mark.parametrize("number", [1, 16, 17, 1000])
def test_a_few_images_from_everywhere_are_looked_at(number):
    split = Sizes(*[(8, 8)] * number)
    enlarging_warning(split, [classifier()])
    assert len(split.read) == min(number, 16)
    assert number < 1000 or split.read[-1] > 900


def lines(classes=("a", "b"), **options):
    images = TensorSplit(torch.zeros(3, 3, 2, 2, dtype=torch.uint8), [0, 1, 0])
    splits = Splits(list(classes), images, images)
    return list(opening_lines("photos", splits, Classifiers(**options, classes=tuple(classes))))


def test_data_classes_and_both_views_are_said():
    found = lines(student=classifier(32, "small"), teacher=classifier(96, "big"))
    assert found == [
        "data     photos: 3 images to train, 3 to validate",
        "         2 classes: a, b",
        "student  small, random weights",
        "         sees 32 px, center 87.5 %, bilinear, mean and std of ImageNet (made up)",
        "teacher  big, random weights",
        "         sees 96 px, center 87.5 %, bilinear, mean and std of ImageNet (made up)",
        "         holds less than 0.1 MB: 0 parameters",
    ]


def test_what_the_teacher_holds_is_the_sum_of_parameters_and_buffers():
    network = nn.Sequential(nn.Linear(1000, 3000), nn.BatchNorm1d(3000)).half()
    parameters = 1000 * 3000 + 3 * 3000  # weight and bias, and those of the norm
    # A half is 2 bytes; mean and variance, and the number of batches, an integer.
    size = 2 * (parameters + 2 * 3000) + 8
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert size / 1e6 == pytest.approx(6.03, abs=0.001)
    assert held(network) == "holds 6.0 MB: 3 009 000 parameters"


def test_a_teacher_whose_features_alone_teach_is_said_to_be_one():
    deaf = classifier(no_answers="it does not know 2 of the classes")
    found = lines(student=classifier(), teacher=deaf)
    assert found[-1].strip() == "only its features teach: it does not know 2 of the classes"


def test_many_classes_fit_the_terminal():
    found = lines([f"class{number}" for number in range(1000)], student=classifier(), teacher=None)
    assert max(map(len, found)) <= 80
    assert found[1].startswith("         1000 classes: class0, class1, ")
    assert found[1].endswith("…")
