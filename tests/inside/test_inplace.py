"""In-place operations: found, switched off for a while, and given back."""

import pytest
import torch
from torch import nn

from mgd.inside.inplace import OutOfPlaceModules, in_place_modules, out_of_place, times_written


def network():
    return nn.Sequential(nn.ReLU(inplace=True), nn.ReLU(), nn.Sequential(nn.SiLU(inplace=True)))


def flags(net):
    return [net[0].inplace, net[1].inplace, net[2][0].inplace]


def test_only_in_place_modules_are_found():
    net = network()
    assert in_place_modules(net) == [net[0], net[2][0]]


def test_an_attribute_of_that_name_with_another_meaning_is_not_taken():
    module = nn.Identity()
    module.inplace = "somewhere"
    assert in_place_modules(module) == []


def test_modules_are_out_of_place_within_the_context_alone():
    net = network()
    with out_of_place(net):
        assert flags(net) == [False, False, False]
    assert flags(net) == [True, False, True]


def test_modules_are_in_place_again_after_a_failure():
    net = network()
    with pytest.raises(ZeroDivisionError), out_of_place(net):
        raise ZeroDivisionError
    assert flags(net) == [True, False, True]


def test_changed_modules_can_be_in_place_for_a_comparison():
    net, changed = network(), OutOfPlaceModules()
    changed.add(net[0])
    changed.add(net[0])  # as a module that is called twice in one forward
    with changed.in_place_again():
        assert net[0].inplace
    assert not net[0].inplace
    changed.restore()
    assert flags(net) == [True, False, True]
    assert not changed


def test_a_write_through_a_view_is_counted():
    tensor = torch.zeros(4)
    before = times_written(tensor)
    tensor[:2].relu_()
    assert times_written(tensor) == before + 1
