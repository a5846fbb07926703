"""Shapes in every signature are checked while the tests run."""

import jaxtyping
import pytest
import torch

jaxtyping.install_import_hook("mgd", "beartype.beartype")


@pytest.fixture(autouse=True)
def _same_randomness():
    torch.manual_seed(0)
