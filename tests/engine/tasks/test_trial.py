"""Own networks: what they return is told in one line before anything long, or is trained with."""

import pytest
import torch
from torch import nn

import mgd
from mgd.engine.run import train
from mgd.engine.tasks.classifier import Classifier
from mgd.engine.tasks.classifiers import Classifiers
from mgd.engine.tasks.trial import try_networks
from mgd.errors import InputError

EXAMPLE = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
VIEW = mgd.View(size=8)


class Net(nn.Module):
    """Convolutions and a head; what it returns is for the subclasses to say."""

    def __init__(self, num_classes=3):
        super().__init__()
        self.low = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.high = nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU())
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(6, num_classes)
        self.aux = nn.Linear(4, num_classes)

    def forward(self, x):
        low = self.low(x)
        return self.result(self.head(self.drop(self.high(low).mean((2, 3)))), low)

    def result(self, logits, low):
        return logits


class InDict(Net):
    def result(self, logits, low):
        return {"logits": logits, "features": low}


class WithAux(Net):
    """As torchvision's GoogLeNet: more in training than in evaluation."""

    def result(self, logits, low):
        return {"logits": logits, "aux": self.aux(low.mean((2, 3)))} if self.training else logits


class InList(Net):
    def result(self, logits, low):
        return [logits]


class ListInTraining(Net):
    def result(self, logits, low):
        return [logits, low] if self.training else logits


class Nothing(Net):
    def result(self, logits, low):
        return None


class Maps(Net):
    def result(self, logits, low):
        return low


class OneMore(Net):
    def __init__(self, num_classes=3):
        super().__init__(num_classes + 1)


class Silent(Net):
    def result(self, logits, low):
        raise AssertionError


def classifiers(student, teacher=None, view=VIEW, **options):
    networks = (
        Classifier("net", network, view, "random weights", "made up", **options)
        for network in (student, teacher or Net())
    )
    first, second = networks
    return Classifiers(first, second if teacher is not None else None, ("a", "b", "c"))


class Lazy(Net):
    """Layers that learn their sizes from the first images."""

    def __init__(self, num_classes=3):
        super().__init__(num_classes)
        self.high = nn.Sequential(nn.LazyConv2d(6, 3, 2, 1), nn.LazyBatchNorm2d(), nn.ReLU())


@pytest.mark.parametrize("kind", [Net, InDict, WithAux, Lazy])
def test_networks_that_give_scores_pass(kind):
    try_networks(classifiers(kind(), kind()), EXAMPLE)


UNFIT = {
    InList: "net: a network returned a list, in which no class scores are known; needed is",
    ListInTraining: "net: a network returned a list, in which no class scores are known",
    Nothing: "net: a network returned a NoneType, in which no class scores are known",
    Maps: r"net: outputs \(4, 4, 4\), but the data has 3 classes; give a network with one output",
    OneMore: r"net: outputs \(4,\), but the data has 3 classes; give a network with one output",
    Silent: r"net cannot run on images of 8 x 8 px \(AssertionError\); give it another `size`",
}


@pytest.mark.parametrize("kind", UNFIT)
def test_a_student_that_does_not_fit_is_one_line(kind):
    with pytest.raises(InputError, match=UNFIT[kind]):
        try_networks(classifiers(kind()), EXAMPLE)


@pytest.mark.parametrize("kind", [InList, Nothing, OneMore])
def test_a_teacher_that_does_not_fit_is_one_line(kind):
    with pytest.raises(InputError, match=UNFIT[kind]):
        try_networks(classifiers(Net(), kind()), EXAMPLE)


def test_a_teacher_for_other_images_says_which_option_helps():
    with pytest.raises(InputError, match=r"net cannot run on images of 8 x 8 px .*`teacher_size`"):
        try_networks(classifiers(Net(), nn.Linear(3, 3)), EXAMPLE)


@pytest.mark.parametrize("kind", [InList, Nothing, OneMore])
def test_a_teacher_whose_features_alone_teach_may_return_anything(kind):
    try_networks(classifiers(Net(), kind(), no_answers="others"), EXAMPLE)


def test_the_networks_are_left_as_they_were():
    network = WithAux()
    network.high.eval()
    modes = [module.training for module in network.modules()]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(3)
    wanted = torch.rand(2)
    networks = classifiers(network, Net())
    torch.manual_seed(3)
    try_networks(networks, EXAMPLE)
    assert torch.equal(torch.rand(2), wanted)
    assert [module.training for module in network.modules()] == modes
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def code(kind):
    return f"{kind.__module__}:{kind.__name__}"


@pytest.fixture
def config(fast_run, image_folder):
    return fast_run.replace(
        data=str(image_folder), train_images=0, batch_size=6, epochs=1, experiment="run"
    )


@pytest.mark.parametrize("kind", [InDict, WithAux])
@pytest.mark.parametrize("under", ["none", "mgd", "kd"])
def test_a_network_that_returns_more_than_scores_is_trained(config, kind, under):
    options = {"teacher": code(kind), "use_pretrained": 0, "mgd_with_kd": 1, "points": "auto"}
    outcome = train(config.replace(arch=code(kind), distiller=under, **options))
    state = mgd.load_network(outcome.folder / "student.safetensors", code(kind))[0].state_dict()
    assert all(value.isfinite().all() for value in state.values())
    assert outcome.best["epoch"] == 0


@pytest.mark.parametrize("kind", [InList, ListInTraining, Nothing, OneMore])
def test_a_run_whose_network_does_not_fit_leaves_nothing(config, tmp_path, kind):
    with pytest.raises(InputError, match=UNFIT[kind].removeprefix("net: ")):
        train(config.replace(arch=code(kind)))
    assert not (tmp_path / "runs").exists()


def test_several_processes_say_which_weights_get_no_gradient(config, free_port, forked_ranks):
    config = config.replace(arch=code(WithAux), devices=2, dist_url=f"tcp://localhost:{free_port}")
    with pytest.raises(InputError, match=r"2 weights get no gradient.*: aux\.weight, aux\.bias; b"):
        train(config)
