"""What one of the two processes of `test_guided_ranks.py` does, which are forked."""

import warnings

import torch
import torch.distributed as dist
import torch.nn.functional as F
from plain_loop import EPOCHS, IMAGES, join, loader, matchings, norms, plain_losses, sgd

from mgd import ranks


def of_accelerate(distiller, number):
    import accelerate

    from mgd.integrations.accelerate import MatchingGuided

    accelerator = accelerate.Accelerator(cpu=True)
    guided = MatchingGuided(distiller, accelerator)
    student, optimizer, batches = accelerator.prepare(
        distiller.student, sgd(distiller.student.parameters()), loader(8)
    )
    losses = []
    for epoch in range(EPOCHS):
        guided.begin_epoch(epoch, batches)
        student.train()
        for images, labels in batches:  # accelerate gives each process every other batch
            loss = F.cross_entropy(student(images), labels) + guided.loss().loss.mean()
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    return losses


def of_lightning(distiller, number):
    from test_guided_lightning import fit

    options = {"devices": 2, "strategy": "ddp", "use_distributed_sampler": False}
    losses, _ = fit(".", distiller, batches=loader(8, number, 2), **options)
    return losses


def of_timm(distiller, number):
    from mgd.integrations.timm import MatchingGuidedTask

    task = MatchingGuidedTask(distiller, torch.nn.CrossEntropyLoss(), verbose=False)
    optimizer = sgd(task.get_trainable_module().parameters())
    task.prepare_distributed()
    batches, losses = loader(8, number, 2), []
    for epoch in range(EPOCHS):
        task.begin_epoch(epoch, batches)
        task.train()
        for images, labels in batches:
            loss = task(images, labels)["loss"]
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    return losses


def of_transformers(distiller, number):
    from test_guided_transformers import GuidedTrainer, trainer

    class InOrder(GuidedTrainer):
        def get_train_dataloader(self):
            batches = loader(8, number, 2)
            batches.collate_fn = lambda pairs: {
                "pixel_values": torch.stack([image for image, _ in pairs]),
                "labels": torch.stack([label for _, label in pairs]),
            }
            return batches

    training = trainer(".", distiller, kind=InOrder, batch=8, max_steps=IMAGES // 8)
    training.train()
    return training.losses


def networks(name):
    if name != "transformers":
        return None
    from test_guided_transformers import resnet_and_vit

    return resnet_and_vit


def work(name, number):
    """Trains in a plain loop and in a library's, both under DDP, and saves what came out."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    plain, theirs = join(networks(name)), join(networks(name))
    expected = plain_losses(plain, loader(8, number, 2))
    losses = globals()[f"of_{name}"](theirs, number)
    found = {"expected": expected, "losses": losses, "plain": weights(plain)}
    torch.save(found | {"theirs": weights(theirs)}, f"{number}.pt")
    ranks.leave()


def weights(distiller):
    student = dict(distiller.student.named_parameters())
    own = [student[name].detach() for name in distiller.student.state_dict() if name in student]
    return [*own, *norms(distiller), *matchings(distiller)]
