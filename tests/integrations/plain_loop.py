"""The loop that every integration is compared with: plain PyTorch and a `mgd.Distiller`."""

from contextlib import nullcontext

import torch
import torch.distributed as dist
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

import mgd

EPOCHS, BATCH, IMAGES = 2, 16, 80
LR, MOMENTUM = 0.01, 0.9


def digits(number=IMAGES):
    """Returns scans (N, 3, 8, 8) of digits from -1 to 1, and their classes."""
    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels[:number], dtype=torch.float32).view(-1, 1, 8, 8) / 8 - 1
    return images.expand(-1, 3, -1, -1).contiguous(), torch.tensor(labels[:number])


def loader(batch_size=BATCH, rank=0, num_ranks=1):
    """Returns batches in a fixed order; of several ranks each has every so many of them."""
    images, labels = digits()
    of_rank = torch.arange(IMAGES).view(-1, batch_size)[rank::num_ranks].flatten()
    return DataLoader(TensorDataset(images[of_rank], labels[of_rank]), batch_size)


def join(create=None, **options):
    """Returns a distiller of two networks whose weights are always the same.

    Args:
        create: Makes teacher and student; small residual networks if not given.
        **options: Of `mgd.Distiller`.
    """
    torch.manual_seed(5)
    teacher, student = (create or _networks)()
    return mgd.Distiller(teacher, student, digits()[0][:BATCH], **{"kd_weight": 0.5, **options})


def _networks():
    names = ("cifar_resnet8", "cifar_resnet8_x0_5")
    return tuple(mgd.create_model(name, num_classes=10) for name in names)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=LR, momentum=MOMENTUM)


def plain_losses(distiller, batches, *, every=1, bf16=False, match_bf16=False, accumulate=1):
    """Trains in a loop of one's own, under DDP in a process group, and returns the losses."""

    def autocast(is_on):
        return torch.autocast("cpu", torch.bfloat16) if is_on else nullcontext()

    learner = distiller.learner
    if dist.is_initialized():
        learner = DistributedDataParallel(learner)
    optimizer, losses = sgd(distiller.learner.parameters()), []
    for epoch in range(EPOCHS):
        if epoch % every == 0:
            with autocast(match_bf16):
                mgd.update_matching(distiller, batches)
        distiller.train()
        for step, (images, labels) in enumerate(batches):
            with autocast(bf16):
                out = learner(images, labels, distiller.guide(images))
                loss = F.cross_entropy(out.logits.float(), labels) + out.loss.mean()
            (loss / accumulate).backward()
            losses.append(loss.item())
            if (step + 1) % accumulate == 0:
                optimizer.step()
                optimizer.zero_grad()
    return losses


def matchings(distiller):
    return [point.matcher.matching.clone() for point in distiller.points.matched()]


def norms(distiller):
    return [point.norm.weight.detach().clone() for point in distiller.points.matched()]


def tensors_in(state):
    """Yields every tensor of a checkpoint."""
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, dict):
        for value in state.values():
            yield from tensors_in(value)
    elif isinstance(state, (list, tuple)):
        for value in state:
            yield from tensors_in(value)


def holds_teacher(state, distiller):
    """Tells whether one of the teacher's weight tensors is in a checkpoint."""
    weights = [weight for weight in distiller.teacher.parameters() if weight.dim() > 1]
    return any(
        found.shape == weight.shape and torch.equal(found.cpu(), weight.cpu())
        for found in tensors_in(state)
        for weight in weights
    )
