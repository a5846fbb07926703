"""Matching Guided Distillation inside the training loops of other libraries.

Each library has a module of its own, which imports it: `mgd.integrations.lightning`,
`mgd.integrations.transformers`, `mgd.integrations.timm`, `mgd.integrations.accelerate`. `Guided` is
what they share, and serves any other loop.
"""

from mgd.integrations.guided import Guided

__all__ = ["Guided"]
