"""Lightning: the callback gives the losses of a loop of one's own, and a checkpoint goes on."""

import plain_loop
import pytest
import torch
import torch.nn.functional as F
from plain_loop import EPOCHS, join, loader, matchings, norms, plain_losses, sgd

import mgd

lightning = pytest.importorskip("lightning.pytorch", reason="the extra `lightning` is missing")
from mgd.integrations.lightning import MatchingGuided  # noqa: E402  # only where it is installed

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice on workers and loggers


class Classifier(lightning.LightningModule):
    """A module as a user has it: nothing in it is made for distillation."""

    def __init__(self, network, returns_dict=False):
        super().__init__()
        self.network, self.returns_dict = network, returns_dict

    def training_step(self, batch, batch_idx):
        images, labels = batch
        loss = F.cross_entropy(self.network(images).float(), labels)
        return {"loss": loss, "more": 1} if self.returns_dict else loss

    def configure_optimizers(self):
        return sgd(self.parameters())


class Losses(lightning.Callback):
    """Keeps the loss of every step."""

    def __init__(self):
        self.losses = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(outputs["loss"].item())


def trainer(folder, *callbacks, **options):
    defaults = {"max_epochs": EPOCHS, "accelerator": "cpu", "devices": 1, "logger": False}
    defaults |= {"enable_progress_bar": False, "enable_model_summary": False}
    return lightning.Trainer(
        **defaults | options, default_root_dir=folder, callbacks=list(callbacks)
    )


def fit(folder, distiller, every=1, batches=None, ckpt_path=None, **options):
    """Trains, and returns the losses and the trainer."""
    losses, returns_dict = Losses(), options.pop("returns_dict", False)
    fitted = trainer(folder, MatchingGuided(distiller, every_epochs=every), losses, **options)
    module = Classifier(distiller.student, returns_dict)
    fitted.fit(module, batches or loader(), ckpt_path=ckpt_path)
    return losses.losses, fitted


@pytest.mark.parametrize(
    ("theirs", "ours", "returns_dict"),
    [
        ({}, {}, False),
        ({}, {}, True),
        ({"precision": "bf16-mixed"}, {"bf16": True}, False),
        ({"every": 2}, {"every": 2}, False),
    ],
)
def test_losses_are_those_of_a_loop_of_ones_own(tmp_path, theirs, ours, returns_dict):
    expected = plain_losses(join(), loader(), **ours)
    losses, _ = fit(tmp_path, join(), returns_dict=returns_dict, **theirs)
    assert len(losses) == 10
    assert losses == pytest.approx(expected, abs=1e-5)


def test_gradients_that_are_accumulated_are_those_of_a_loop_of_ones_own(tmp_path):
    expected, distiller = join(), join()
    plain_losses(expected, loader(8), accumulate=2)
    fit(tmp_path, distiller, batches=loader(8), accumulate_grad_batches=2)
    for name, weight in expected.student.named_parameters():
        torch.testing.assert_close(distiller.student.get_parameter(name), weight, atol=1e-5, rtol=0)


def test_the_label_reaches_a_loss_that_needs_it(tmp_path):
    expected = plain_losses(join(kd="dkd"), loader())
    losses, _ = fit(tmp_path, join(kd="dkd"))
    assert losses == pytest.approx(expected, abs=1e-5)


def test_the_terms_are_logged(tmp_path):
    _, fitted = fit(tmp_path, join())
    names = {f"teacher/{name}" for name in ("kd", "mgd_1", "mgd_2", "mgd_3")}
    assert names <= set(fitted.callback_metrics)


def test_a_checkpoint_has_no_teacher_and_goes_on_with_the_same_matching(tmp_path):
    whole, _ = fit(tmp_path / "whole", join(), every=2, max_epochs=2)
    first = join()
    start, fitted = fit(tmp_path / "first", first, every=2, max_epochs=1)
    path = fitted.checkpoint_callback.best_model_path
    state = torch.load(path, weights_only=True)
    assert not plain_loop.holds_teacher(state, first)
    assert set(state["state_dict"]) == {f"network.{name}" for name in first.student.state_dict()}
    second = join()
    with torch.no_grad():
        second.points[0].matcher.matching.zero_()
    rest, _ = fit(tmp_path / "second", second, every=2, max_epochs=2, ckpt_path=path)
    assert all(map(torch.equal, matchings(first), matchings(second)))
    assert start + rest == whole


def test_a_run_that_goes_on_inside_an_epoch_keeps_its_matching(tmp_path):
    saving = lightning.callbacks.ModelCheckpoint(tmp_path, every_n_train_steps=7)
    first, second = join(), join()
    fitted = trainer(tmp_path, MatchingGuided(first), saving)
    fitted.fit(Classifier(first.student), loader())
    rest, _ = fit(tmp_path, second, ckpt_path=saving.best_model_path)
    assert len(rest) == 3  # whatever images Lightning shows in the rest of the epoch
    assert all(map(torch.equal, matchings(first), matchings(second)))


def test_the_module_is_given_back_as_it_was(tmp_path):
    distiller = join()
    before = list(distiller.student.state_dict()), list(distiller.student._parameters)
    _, fitted = fit(tmp_path, distiller)
    assert before == (list(distiller.student.state_dict()), list(distiller.student._parameters))
    assert "training_step" not in vars(fitted.lightning_module)
    assert not distiller.student._forward_pre_hooks


def test_the_norms_are_trained(tmp_path):
    distiller = join()
    before = norms(distiller)
    fit(tmp_path, distiller)
    assert not any(map(torch.equal, before, norms(distiller)))


def test_a_student_that_is_not_trained_here_is_refused(tmp_path):
    other = mgd.create_model("cifar_resnet8_x0_5", num_classes=10)
    fitted = trainer(tmp_path, MatchingGuided(join()))
    with pytest.raises(
        mgd.InputError, match=r"student is not inside Classifier.*`module\.network`"
    ):
        fitted.fit(Classifier(other), loader())


def test_optimization_by_hand_is_refused(tmp_path):
    distiller = join()
    module = Classifier(distiller.student)
    module.automatic_optimization = False
    with pytest.raises(mgd.InputError, match="by hand"):
        trainer(tmp_path, MatchingGuided(distiller)).fit(module, loader())


def test_an_optimizer_without_the_points_is_refused(tmp_path):
    distiller = join()
    module = Classifier(distiller.student)
    optimizer = sgd(list(module.parameters()))  # before the callback
    module.configure_optimizers = lambda: optimizer
    with pytest.raises(mgd.InputError, match="no optimizer has mgd_0_norm_weight"):
        trainer(tmp_path, MatchingGuided(distiller)).fit(module, loader())
