"""accelerate: a loop with an Accelerator has the losses of one without, and its state goes on."""

import plain_loop
import pytest
import torch
import torch.nn.functional as F
from plain_loop import EPOCHS, join, loader, matchings, norms, plain_losses, sgd

import mgd

accelerate = pytest.importorskip("accelerate", reason="the extra `accelerate` is missing")
from safetensors.torch import load_file  # noqa: E402

from mgd.integrations.accelerate import MatchingGuided  # noqa: E402  # where it is installed


def forget():
    """accelerate keeps its settings in the process."""
    accelerate.state.AcceleratorState._reset_state(True)
    accelerate.state.GradientState._reset_state()


@pytest.fixture(autouse=True)
def _fresh():
    forget()
    yield
    forget()


def train(distiller, batches=None, every=1, begin=0, end=EPOCHS, save=None, load=None, **options):
    """A user's loop; returns the losses."""
    accelerator = accelerate.Accelerator(cpu=True, **options)
    guided = MatchingGuided(distiller, accelerator, every_epochs=every)
    student, optimizer, batches = accelerator.prepare(
        distiller.student, sgd(distiller.student.parameters()), batches or loader()
    )
    if load:
        accelerator.load_state(load)
    losses = []
    for epoch in range(begin, end):
        guided.begin_epoch(epoch, batches)
        student.train()
        for images, labels in batches:
            with accelerator.accumulate(student):
                loss = F.cross_entropy(student(images), labels) + guided.loss().loss.mean()
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
            losses.append(loss.item())
    if save:
        accelerator.save_state(save)
    return losses


@pytest.mark.parametrize(
    ("kd_weight", "theirs", "ours"),
    [
        (0.5, {}, {}),
        (0.5, {"every": 2}, {"every": 2}),
        # accelerate makes the logits float32 once for both losses on them, which rounds otherwise.
        (0.0, {"mixed_precision": "bf16"}, {"bf16": True, "match_bf16": True}),
    ],
)
def test_losses_are_those_of_a_loop_of_ones_own(kd_weight, theirs, ours):
    expected = plain_losses(join(kd_weight=kd_weight), loader(), **ours)
    losses = train(join(kd_weight=kd_weight), **theirs)
    assert len(losses) == 10
    assert losses == pytest.approx(expected, abs=1e-5)


def test_gradients_that_are_accumulated_are_those_of_a_loop_of_ones_own():
    expected, distiller = join(), join()
    plain = plain_losses(expected, loader(8), accumulate=2)
    losses = train(distiller, loader(8), gradient_accumulation_steps=2)
    assert losses == pytest.approx(plain, abs=1e-5)
    for name, weight in expected.student.named_parameters():
        torch.testing.assert_close(distiller.student.get_parameter(name), weight, atol=1e-5, rtol=0)


def test_a_saved_state_has_no_teacher_and_goes_on_with_the_same_matching(tmp_path):
    whole = train(join(), every=2)
    first, folder = join(), tmp_path / "state"
    start = train(first, every=2, end=1, save=folder)
    weights = load_file(folder / "model.safetensors")
    assert set(weights) == set(first.student.state_dict())
    for path in folder.iterdir():
        if path.suffix != ".safetensors":
            state = torch.load(path, weights_only=False)
            assert not plain_loop.holds_teacher(state, first)
    second = join()
    rest = train(second, every=2, begin=1, load=folder)
    assert all(map(torch.equal, matchings(first), matchings(second)))
    assert start + rest == whole


def test_the_matching_leaves_the_order_of_the_images_alone():
    def order(every):
        distiller = join()
        seen = []
        distiller.student.register_forward_pre_hook(
            lambda module, args: seen.append(args[0].sum().item()) if module.training else None
        )
        torch.manual_seed(3)
        images = torch.utils.data.DataLoader(loader().dataset, 16, shuffle=True)
        train(distiller, images, every=every, end=3)
        return seen

    assert order(1) == order(2)


def test_the_norms_are_trained():
    distiller = join()
    before = norms(distiller)
    train(distiller)
    assert not any(map(torch.equal, before, norms(distiller)))


def test_an_optimizer_that_was_made_too_early_is_refused():
    distiller, accelerator = join(), accelerate.Accelerator(cpu=True)
    optimizer = accelerator.prepare(sgd(list(distiller.student.parameters())))
    guided = MatchingGuided(distiller, accelerator)
    with pytest.raises(mgd.InputError, match=r"no optimizer has mgd_0_norm_weight.*after"):
        guided.begin_epoch(0, loader())
    assert optimizer is not None
