"""Autograd's graph: which operation made a tensor, and from which others.

Each tensor that depends on the images has a node, its `grad_fn`. The class names of nodes, such as
`AddBackward0`, are autograd's own; this module is the only one that knows them. The graph shows
operations that no module stands for, as in `F.relu(x + shortcut)`.
"""

from collections.abc import Callable, Container, Iterable

from torch.autograd.graph import Node

# Each constant holds the starts of node names, or a part of them where that is said.
_ACTIVATIONS = (
    *("Relu", "LeakyRelu", "Prelu", "Hardtanh", "Clamp", "Hardswish", "Silu", "Gelu"),
    *("Elu", "Celu", "Mish", "Softplus"),
)
# `Add` alone would also match `AddmmBackward0`, a linear layer.
_SUMS = ("AddBackward", "AddcmulBackward")
_JOINS = ("Cat",)
# Parts of names: `ConvolutionBackward0`, `MkldnnConvolutionBackward0`.
_CONVOLUTION = "Convolution"
_SLICES = ("Split", "Slice")
_RESHAPING = ("View", "Reshape", "Permute", "Transpose", "Clone", "Alias", "Contiguous", "Squeeze")
# Parts of names: `MaxPool2DWithIndicesBackward0`, `CudnnBatchNormBackward0`.
_POOLING, _NORM, _BATCH_NORM = "Pool", "Norm", "BatchNorm"


def is_activation_function(node: Node) -> bool:
    """Tells whether an operation is an activation function, as `F.relu`.

    Example:
        >>> import torch
        >>> is_activation_function(torch.zeros(2, requires_grad=True).relu().grad_fn)
        True
    """
    return node.name().startswith(_ACTIVATIONS)


def is_sum(node: Node) -> bool:
    """Tells whether an operation adds a tensor or a number, as `x + y` and `x + 1`.

    Example:
        >>> import torch
        >>> is_sum((torch.zeros(2, requires_grad=True) + 1).grad_fn)
        True
        >>> is_sum(torch.nn.Linear(2, 2)(torch.zeros(1, 2)).grad_fn)
        False
    """
    return node.name().startswith(_SUMS)


def is_residual_sum(node: Node) -> bool:
    """Tells whether an operation adds two tensors that both depend on the images.

    Example:
        >>> import torch
        >>> x = torch.zeros(2, requires_grad=True)
        >>> is_residual_sum((x + x.relu()).grad_fn), is_residual_sum((x + 1).grad_fn)
        (True, False)
    """
    return is_sum(node) and len(parents_of(node)) > 1


def is_join(node: Node) -> bool:
    """Tells whether an operation is a concatenation.

    Example:
        >>> import torch
        >>> is_join(torch.cat([torch.zeros(2, requires_grad=True)] * 2).grad_fn)
        True
    """
    return node.name().startswith(_JOINS)


def is_convolution(node: Node) -> bool:
    """Tells whether an operation is a convolution.

    Example:
        >>> import torch
        >>> is_convolution(torch.nn.Conv2d(3, 8, 3)(torch.zeros(1, 3, 4, 4)).grad_fn)
        True
    """
    return _CONVOLUTION in node.name()


def is_slice(node: Node) -> bool:
    """Tells whether an operation keeps a part of a tensor.

    Example:
        >>> import torch
        >>> is_slice(torch.zeros(4, requires_grad=True)[1:].grad_fn)
        True
    """
    return node.name().startswith(_SLICES)


def is_pooling(node: Node) -> bool:
    """Tells whether an operation pools over positions.

    Example:
        >>> import torch
        >>> x = torch.zeros(1, 1, 4, 4, requires_grad=True)
        >>> is_pooling(torch.nn.functional.max_pool2d(x, 2).grad_fn)
        True
    """
    return _POOLING in node.name()


def is_norm(node: Node) -> bool:
    """Tells whether an operation is a normalisation: of batch, layer, group or instance.

    Example:
        >>> import torch
        >>> is_norm(torch.nn.LayerNorm(2)(torch.zeros(1, 2)).grad_fn)
        True
    """
    return _NORM in node.name()


def is_batch_norm(node: Node) -> bool:
    """Tells whether an operation is a batch normalisation.

    Example:
        >>> import torch
        >>> is_batch_norm(torch.nn.BatchNorm1d(2)(torch.zeros(2, 2)).grad_fn)
        True
    """
    return _BATCH_NORM in node.name()


def is_reshaping(node: Node) -> bool:
    """Tells whether an operation keeps every value and changes only shape or memory layout.

    Example:
        >>> import torch
        >>> is_reshaping(torch.zeros(4, requires_grad=True).view(2, 2).grad_fn)
        True
    """
    return node.name().removeprefix("Unsafe").startswith(_RESHAPING)


def parents_of(node: Node) -> list[Node]:
    """Returns the operations that made the inputs of an operation.

    Example:
        >>> import torch
        >>> x = torch.zeros(2, requires_grad=True)
        >>> [parent.name() for parent in parents_of((x.exp() + x.relu()).grad_fn)]
        ['ExpBackward0', 'ReluBackward0']
    """
    return [parent for parent, _ in node.next_functions if parent is not None]


def first_before(node: Node | None, skips: Callable[[Node], bool]) -> Node | None:
    """Goes back, along first inputs, to the first operation that is not skipped.

    Args:
        node: Where to start; it may be the answer.
        skips: Tells whether to go on from an operation to the one before it.

    Returns:
        The operation, or `None` where the graph ends before.

    Example:
        >>> import torch
        >>> result = torch.zeros(4, requires_grad=True).relu().view(2, 2)
        >>> first_before(result.grad_fn, is_reshaping).name()
        'ReluBackward0'
    """
    while node is not None and skips(node):
        node = next(iter(parents_of(node)), None)
    return node


def consumers_of(outputs: Iterable[Node]) -> dict[Node, list[Node]]:
    """Maps every operation behind some outputs to the operations that read its result.

    Example:
        >>> import torch
        >>> middle = torch.zeros(4, requires_grad=True).exp()
        >>> consumers = consumers_of([middle.relu().grad_fn])
        >>> [node.name() for node in consumers[middle.grad_fn]]
        ['ReluBackward0']
    """
    consumers: dict[Node, list[Node]] = {}
    todo, seen = list(outputs), set[Node]()
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        for parent in parents_of(node):
            consumers.setdefault(parent, []).append(node)
            todo.append(parent)
    return consumers


def main_branch_norm(node: Node | None, norms: Container[Node]) -> Node | None:
    """Finds the norm whose output a tensor is, possibly reshaped and with shortcuts added.

    Behind a residual sum there may be two norms: that of the shortcut and that of the main
    branch. The main branch has more operations, so the norm farthest from the input is taken.

    Args:
        node: The operation that made the tensor.
        norms: The norms to look for.

    Returns:
        The norm, or `None` if there is none.

    Example:
        >>> import torch
        >>> output = torch.nn.BatchNorm1d(2)(torch.zeros(4, 2))
        >>> found = main_branch_norm((output + 1).view(2, 4).grad_fn, {output.grad_fn})
        >>> found is output.grad_fn
        True
    """
    found, todo, seen = list[Node](), [node], set[Node]()
    while todo:
        current = todo.pop()
        if current is None or current in seen:
            continue
        seen.add(current)
        if current in norms:
            found.append(current)
        elif is_sum(current) or is_reshaping(current):
            todo.extend(parents_of(current))
    depths: dict[Node, int] = {}
    return max(found, key=lambda norm: _depth(norm, depths), default=None)


def _depth(node: Node, depths: dict[Node, int]) -> int:
    """Returns the number of operations on the longest way from the input to a node.

    Args:
        node: The node to look at.
        depths: What earlier calls found; it is extended.
    """
    # A stack of its own: deep networks exceed Python's limit of recursion.
    stack = [node]
    while stack:
        current = stack[-1]
        parents = parents_of(current)
        missing = [parent for parent in parents if parent not in depths]
        if missing:
            stack.extend(missing)
        else:
            depths[current] = 1 + max((depths[parent] for parent in parents), default=0)
            stack.pop()
    return depths[node]
