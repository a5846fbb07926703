"""timm: the task gives the losses of a loop of one's own, and a checkpoint goes on."""

import plain_loop
import pytest
import torch
from plain_loop import EPOCHS, join, loader, matchings, norms, plain_losses, sgd
from torch import nn

import mgd

tasks = pytest.importorskip("timm.task", reason="this timm has no tasks")
from timm.utils import CheckpointSaver  # noqa: E402

from mgd.integrations.timm import MatchingGuidedTask  # noqa: E402  # where it is installed


def create():
    import timm

    names = ("resnet10t", "test_resnet")
    return tuple(timm.create_model(name, num_classes=10) for name in names)


def make(distiller, **options):
    return MatchingGuidedTask(distiller, nn.CrossEntropyLoss(), verbose=False, **options)


def train(task, optimizer, begin=0, end=EPOCHS, bf16=False):
    losses = []
    for epoch in range(begin, end):
        task.begin_epoch(epoch, loader())
        task.train()
        for images, labels in loader():
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                result = task(images, labels)
            result["loss"].backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(result["loss"].item())
    return losses


@pytest.mark.parametrize(
    ("networks", "every", "bf16"),
    [(create, 1, False), (create, 2, False), (None, 1, False), (None, 1, True)],
)
def test_losses_are_those_of_a_loop_of_ones_own(networks, every, bf16):
    expected = plain_losses(join(networks), loader(), every=every, bf16=bf16)
    task = make(join(networks), every_epochs=every)
    losses = train(task, sgd(task.get_trainable_module().parameters()), bf16=bf16)
    assert len(losses) == 10
    assert losses == pytest.approx(expected, abs=1e-5)


def test_a_forward_gives_the_parts_of_the_loss():
    task = make(join())
    task.begin_epoch(0, loader())
    images, labels = next(iter(loader()))
    result = task.train()(images, labels)
    assert result["output"].shape == (16, 10)
    terms = [result[name] for name in ("kd", "mgd_1", "mgd_2", "mgd_3")]
    torch.testing.assert_close(sum(terms), result["distill_loss"])
    torch.testing.assert_close(result["loss"], result["task_loss"] + result["distill_loss"])


def test_a_checkpoint_has_no_teacher_and_goes_on_with_the_same_matching(tmp_path):
    task = make(join(), every_epochs=2)
    whole = train(task, sgd(task.get_trainable_module().parameters()))
    first, second = join(), join()
    task = make(first, every_epochs=2)
    optimizer = sgd(task.get_trainable_module().parameters())
    start = train(task, optimizer, end=1)
    saver = CheckpointSaver(
        task.get_trainable_module(), optimizer, task=task, checkpoint_dir=tmp_path
    )
    saver.save_checkpoint(0, 1.0)
    path = str(tmp_path / "last.pth.tar")
    state = torch.load(path, weights_only=True)
    assert not plain_loop.holds_teacher(state, first)
    assert set(state["state_dict"]) == set(first.student.state_dict())

    task = make(second, every_epochs=2)
    optimizer = sgd(task.get_trainable_module().parameters())
    epoch = tasks.resume_task_checkpoint(task, path, optimizer, log_info=False)
    assert all(map(torch.equal, matchings(first), matchings(second)))
    assert start + train(task, optimizer, begin=epoch) == whole


def test_a_checkpoint_without_a_matching_is_refused(tmp_path):
    distiller = join()
    torch.save({"state_dict": distiller.student.state_dict()}, tmp_path / "plain.pth")
    with pytest.raises(mgd.InputError, match="no matching"):
        tasks.resume_task_checkpoint(make(distiller), str(tmp_path / "plain.pth"), log_info=False)


def test_an_ema_is_the_student_alone():
    distiller = join()
    task = make(distiller)
    task.setup_ema(decay=0.5)
    train(task, sgd(task.get_trainable_module().parameters()), end=1)
    task.update_ema()
    saved = task.get_checkpoint_state(ema=True)
    assert set(saved) == {"state_dict_ema"}
    assert set(saved["state_dict_ema"]) == set(distiller.student.state_dict())
    task.get_eval_model(ema=True)(plain_loop.digits()[0]).sum().backward()  # nobody follows it
    with pytest.raises(mgd.InputError, match="not called"):
        task.guided.loss()


def test_clipping_without_the_head_leaves_out_the_students_last_two():
    task = make(join())
    without = {id(each) for each in task.get_clip_parameters(exclude_head=True)}
    head = list(task.guided.distiller.student.linear.parameters())
    missing = [each for each in task.get_clip_parameters() if id(each) not in without]
    assert [id(each) for each in missing] == [id(each) for each in head]
    assert {id(each) for each in task.guided.parameters().values()} <= without


def test_the_norms_are_trained():
    distiller = join()
    before, task = norms(distiller), make(distiller)
    train(task, sgd(task.get_trainable_module().parameters()))
    assert not any(map(torch.equal, before, norms(distiller)))


@pytest.mark.filterwarnings("ignore")  # of the compiler's own parts
def test_a_compiled_student_has_the_same_losses():
    expected = plain_losses(join(), loader())
    task = make(join())
    task.compile(backend="eager")
    losses = train(task, sgd(task.get_trainable_module().parameters()))
    assert losses == pytest.approx(expected, abs=1e-5)
    assert set(task.get_checkpoint_state()["state_dict"]) == set(task.guided.student.state_dict())
