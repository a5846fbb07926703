"""What networks return: the class scores in it, and comparing it tensor by tensor."""

from collections import OrderedDict, namedtuple
from types import SimpleNamespace

import pytest
import torch
from torchvision.models import GoogLeNet

import mgd

SCORES, OTHER = torch.zeros(2, 5), torch.ones(2, 5)


@pytest.mark.parametrize(
    "output",
    [
        SCORES,
        {"logits": SCORES, "out": OTHER, "loss": None},
        OrderedDict(out=SCORES, aux=OTHER),
        SimpleNamespace(logits=SCORES, out=OTHER),
        namedtuple("Outputs", "aux logits")(OTHER, SCORES),
        {"logits": None, "out": SCORES},
    ],
    ids=["tensor", "logits", "out", "object", "namedtuple", "no logits but out"],
)
def test_the_class_scores_are_found(output):
    assert mgd.logits_of(output) is SCORES


def test_outputs_of_hugging_face_are_read():
    from transformers.modeling_outputs import ImageClassifierOutput

    assert mgd.logits_of(ImageClassifierOutput(logits=SCORES, hidden_states=(OTHER,))) is SCORES


def test_googlenet_in_training_mode_is_read():
    output = GoogLeNet(num_classes=5, init_weights=False).train()(torch.randn(2, 3, 64, 64))
    assert mgd.logits_of(output) is output.logits


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        ({"boxes": OTHER, "scores": OTHER}, "a dict with boxes, scores"),
        ((SCORES, OTHER), "a tuple"),
        ([], "a list"),
        (SimpleNamespace(out=SCORES), "a SimpleNamespace"),
        (None, "a NoneType"),
        ({}, "a dict"),
    ],
)
def test_an_output_without_known_scores_is_told(output, kind):
    message = f"a network returned {kind}, in which no class scores are known; needed is a tensor"
    with pytest.raises(mgd.InputError, match=message):
        mgd.logits_of(output)
