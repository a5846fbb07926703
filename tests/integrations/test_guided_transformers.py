"""transformers: the Trainer has the losses of a loop of one's own, and a checkpoint goes on."""

import os

import plain_loop
import pytest
import torch
from plain_loop import EPOCHS, LR, MOMENTUM, digits, join, loader, matchings, norms, plain_losses

import mgd

transformers = pytest.importorskip("transformers", reason="the extra `hf` is missing")
pytest.importorskip("accelerate", reason="the extra `accelerate` is missing")
from mgd.integrations.transformers import MatchingGuided  # noqa: E402  # where it is installed

pytestmark = pytest.mark.filterwarnings("ignore")  # of the Trainer, on pinned memory


class GuidedTrainer(MatchingGuided, transformers.Trainer):
    """As a user makes it, and it keeps the loss of every batch."""

    def training_step(self, *words, **named):
        loss = super().training_step(*words, **named)
        self.losses = [*getattr(self, "losses", []), loss.item()]
        return loss


class Dataset(torch.utils.data.Dataset):
    """Digits under the names that transformers' collator and networks know."""

    def __init__(self):
        self.images, self.labels = digits()

    def __len__(self):
        return len(self.images)

    def __getitem__(self, number):
        return {"pixel_values": self.images[number], "labels": self.labels[number]}


class InOrder(GuidedTrainer):
    def get_train_dataloader(self):
        return torch.utils.data.DataLoader(
            self.train_dataset, self.args.per_device_train_batch_size, collate_fn=self.data_collator
        )


def resnets():
    from transformers import AutoModelForImageClassification, ResNetConfig

    def make(widths):
        config = ResNetConfig(
            embedding_size=8, hidden_sizes=widths, depths=[1] * len(widths), num_labels=10,
            layer_type="basic",
        )  # fmt: skip
        return AutoModelForImageClassification.from_config(config)

    return make([16, 32]), make([8, 16])


def vit():
    from transformers import AutoModelForImageClassification, ViTConfig

    config = ViTConfig(
        image_size=8, patch_size=2, hidden_size=24, num_hidden_layers=4, num_attention_heads=2,
        intermediate_size=32, num_labels=10, hidden_dropout_prob=0, attention_probs_dropout_prob=0,
    )  # fmt: skip
    return AutoModelForImageClassification.from_config(config)


def vit_and_resnet():
    return vit(), resnets()[1]


def resnet_and_vit():
    return resnets()[0], vit()


def trainer(folder, distiller, kind=InOrder, every=1, batch=16, **options):
    defaults = {"num_train_epochs": EPOCHS, "learning_rate": LR, "lr_scheduler_type": "constant"}
    defaults |= {"optim": "sgd", "optim_args": f"momentum={MOMENTUM}", "max_grad_norm": 0}
    defaults |= {"report_to": [], "use_cpu": True, "disable_tqdm": True, "save_strategy": "no"}
    args = transformers.TrainingArguments(
        str(folder), per_device_train_batch_size=batch, **defaults | options
    )
    return kind(
        model=distiller.student,
        args=args,
        train_dataset=Dataset(),
        distiller=distiller,
        schedule={"every_epochs": every},
    )


@pytest.mark.parametrize(
    ("networks", "theirs", "ours"),
    [
        (resnets, {}, {}),
        (resnets, {"every": 2}, {"every": 2}),
        (vit_and_resnet, {}, {}),
        (resnet_and_vit, {}, {}),
    ],
)
def test_losses_are_those_of_a_loop_of_ones_own(tmp_path, networks, theirs, ours):
    expected = plain_losses(join(networks), loader(), **ours)
    training = trainer(tmp_path, join(networks), **theirs)
    training.train()
    assert len(training.losses) == 10
    assert training.losses == pytest.approx(expected, abs=1e-5)


def test_losses_in_bfloat16_are_those_of_a_loop_of_ones_own(tmp_path):
    # accelerate makes the logits float32 once for both losses on them, which rounds otherwise.
    expected = plain_losses(join(resnets, kd_weight=0), loader(), bf16=True, match_bf16=True)
    training = trainer(tmp_path, join(resnets, kd_weight=0), bf16=True)
    training.train()
    assert training.losses == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("networks", "counts"), [(resnets, False), (resnet_and_vit, True)])
def test_gradients_that_are_accumulated_are_those_of_a_loop_of_ones_own(tmp_path, networks, counts):
    """Whether the Trainer divides by the number of batches, or the model by that of images."""
    expected, distiller = join(networks), join(networks)
    plain_losses(expected, loader(8), accumulate=2)
    training = trainer(tmp_path, distiller, batch=8, gradient_accumulation_steps=2)
    training.model_accepts_loss_kwargs = counts  # resnets take the number and ignore it
    training.train()
    for name, weight in expected.student.named_parameters():
        torch.testing.assert_close(distiller.student.get_parameter(name), weight, atol=1e-5, rtol=0)


def test_label_smoothing_is_kept(tmp_path):
    plain, smooth = (
        trainer(tmp_path / f"{by}", join(resnets), label_smoothing_factor=by, max_steps=1)
        for by in (0.0, 0.2)
    )
    logits = join(resnets).student.train()(digits()[0][:16]).logits
    differ = [
        torch.nn.functional.cross_entropy(logits, digits()[1][:16], label_smoothing=by).item()
        for by in (0.2, 0.0)
    ]
    plain.train()
    smooth.train()
    expected = differ[0] - differ[1]
    assert expected != 0
    assert smooth.losses[0] - plain.losses[0] == pytest.approx(expected, abs=1e-5)


def test_a_checkpoint_has_no_teacher_and_goes_on_with_the_same_matching(tmp_path):
    """With the Trainer's own order of images, in epochs of 5 steps, from the middle of one."""
    options = {"kind": GuidedTrainer, "num_train_epochs": 3, "save_steps": 7}
    options |= {"save_strategy": "steps"}
    first, second = join(resnets), join(resnets)
    whole = trainer(tmp_path, first, **options)
    whole.train()
    folder = tmp_path / "checkpoint-7"
    saved = torch.load(folder / "matching_guided.pt", weights_only=True)
    assert not plain_loop.holds_teacher(saved, first)
    plain = transformers.AutoModelForImageClassification.from_pretrained(folder)
    assert set(plain.state_dict()) == set(first.student.state_dict())
    weights = torch.load(folder / "optimizer.pt", weights_only=True)
    assert not plain_loop.holds_teacher(weights, first)

    resumed = trainer(tmp_path, second, **options)
    resumed.train(resume_from_checkpoint=str(folder))
    assert len(resumed.losses) == 8
    assert resumed.losses == whole.losses[7:]
    assert all(map(torch.equal, matchings(first), matchings(second)))


def test_the_last_checkpoint_is_found_and_one_without_a_matching_is_refused(tmp_path):
    options = {"save_strategy": "epoch", "num_train_epochs": 1}
    trainer(tmp_path, join(resnets), **options).train()
    again = trainer(tmp_path, join(resnets), **options | {"num_train_epochs": 2})
    again.train(resume_from_checkpoint=True)
    assert len(again.losses) == 5
    (tmp_path / "checkpoint-5" / "matching_guided.pt").unlink()
    with pytest.raises(mgd.InputError, match="saved without a teacher"):
        again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))


def test_an_evaluation_asks_no_teacher(tmp_path):
    distiller = join(resnets)
    training = trainer(tmp_path, distiller)
    distiller.teacher.register_forward_pre_hook(lambda *_: pytest.fail("the teacher runs"))
    metrics = training.evaluate(Dataset())
    logits = distiller.student.eval()(digits()[0]).logits
    expected = torch.nn.functional.cross_entropy(logits, digits()[1])
    assert metrics["eval_loss"] == pytest.approx(expected.item(), abs=1e-5)


def test_the_norms_are_trained(tmp_path):
    distiller = join(resnets)
    before = norms(distiller)
    trainer(tmp_path, distiller).train()
    assert not any(map(torch.equal, before, norms(distiller)))


@pytest.mark.slow
def test_a_compiled_student_has_the_same_losses(tmp_path, monkeypatch):
    expected = plain_losses(join(resnets), loader())
    options = {"torch_compile": True, "torch_compile_backend": "eager"}
    with monkeypatch.context() as patch:
        patch.setattr(os, "environ", os.environ.copy())  # where the Trainer tells accelerate of it
        training = trainer(tmp_path, join(resnets), **options)
        training.train()
    assert training.losses == pytest.approx(expected, abs=1e-5)


def test_a_search_for_unused_parameters_is_refused(tmp_path):
    with pytest.raises(mgd.InputError, match="ddp_find_unused_parameters=True"):
        trainer(tmp_path, join(resnets), ddp_find_unused_parameters=True)


def test_another_model_is_refused(tmp_path):
    with pytest.raises(mgd.InputError, match="not the distiller's student"):
        GuidedTrainer(model=resnets()[1], distiller=join(resnets))
