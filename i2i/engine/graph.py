"""Find parts of a loss's graph that were computed before a parameter in them moved.

Such a graph passes autograd's own checks where something made from the parameter was saved in its
stead (a bfloat16 copy, a normalised weight), and its gradients are then wrong in silence.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def sequence_number() -> int:
    """Return a number larger than that of every graph node made so far on this thread."""
    with torch.enable_grad():
        node = torch.zeros((), requires_grad=True).clone().grad_fn
    number: int = node._sequence_nr()  # type: ignore[union-attr]
    return number


def stale_parameter(
    loss: Tensor,
    targets: Iterable[nn.Parameter],
    moved: Mapping[nn.Parameter, int],
    names: Mapping[nn.Parameter, str],
) -> nn.Parameter | None:
    """Return a parameter that moved after ``loss`` was computed with it, if one matters.

    ``moved`` holds the ``sequence_number`` at each parameter's last move, ``names`` the parameters'
    names in the translator. Only nodes through which the gradient of a target flows are looked at,
    and what they take in as a weight: a parameter, or what one module made of its own (a cast, a
    view, spectral or weight normalisation). Pictures made by other networks are data to them.
    """
    if loss.grad_fn is None:
        return None
    wanted = {id(parameter) for parameter in targets}
    leads: dict[Any, bool] = {}
    for node in _children_first(loss.grad_fn):
        nexts = [following for following, _ in node.next_functions if following is not None]
        leads[node] = (_is_leaf(node) and id(node.variable) in wanted) or any(
            leads[following] for following in nexts
        )
        if leads[node]:
            for user, parameter in _weights(node, nexts, leads, names):
                if user._sequence_nr() < moved.get(parameter, -1):
                    return parameter
    return None


def _weights(
    node: Any, nexts: list[Any], leads: Mapping[Any, bool], names: Mapping[nn.Parameter, str]
) -> Iterator[tuple[Any, nn.Parameter]]:
    """Yield the parameters that a node takes in as weights, each with the node that used it."""
    for following in nexts:
        if _is_leaf(following):
            yield node, following.variable
        elif not leads[following]:
            yield from _made_by_one_module(following, names)


def _made_by_one_module(
    root: Any, names: Mapping[nn.Parameter, str]
) -> list[tuple[Any, nn.Parameter]]:
    """Return the parameters below ``root`` with their users, if it is a weight made of them.

    It is one if they all belong to one module and it is as large as one of them; a picture that a
    network made has the parameters of many modules below it.
    """
    found: list[tuple[Any, nn.Parameter]] = []
    owners: set[str] = set()
    for node in _children_first(root):
        for following, _ in node.next_functions:
            if following is not None and _is_leaf(following):
                found.append((node, following.variable))
                owners.add(_owner(names.get(following.variable, "")))
        if len(owners) > 1:
            return []
    size = math.prod(root._input_metadata[0].shape)
    return found if size in {parameter.numel() for _, parameter in found} else []


def _owner(name: str) -> str:
    """Return the name of the module whose parameter this is."""
    module, parametrised, _ = name.partition(".parametrizations.")
    return module if parametrised else name.rpartition(".")[0]


def _is_leaf(node: Any) -> bool:
    return type(node).__name__ == "AccumulateGrad"


def _children_first(root: Any) -> Iterator[Any]:
    """Yield every node below ``root`` once, each after all that it leads to."""
    seen: set[Any] = set()
    stack: list[tuple[Any, bool]] = [(root, False)]
    while stack:
        node, done = stack.pop()
        if done:
            yield node
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend(
                (following, False)
                for following, _ in node.next_functions
                if following is not None and following not in seen
            )
