"""Find parts of a loss's graph that were computed before a parameter in them moved.

Such a graph passes autograd's own checks where a copy of the parameter was saved (bfloat16) or
where a fused optimizer raised no version, and its gradients are then wrong in silence.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

_COPIES = frozenset(
    f"{name}Backward0" for name in ("ToCopy", "T", "Transpose", "Permute", "View", "Clone")
)


def sequence_number() -> int:
    """Return a number larger than that of every graph node made so far on this thread."""
    with torch.enable_grad():
        node = torch.zeros((), requires_grad=True).clone().grad_fn
    number: int = node._sequence_nr()  # type: ignore[union-attr]
    return number


def stale_parameter(
    loss: Tensor, targets: Iterable[nn.Parameter], moved: Mapping[nn.Parameter, int]
) -> nn.Parameter | None:
    """Return a parameter that moved after ``loss`` was computed with it, if one matters.

    ``moved`` holds the ``sequence_number`` at each parameter's last move. Only parts of the graph
    through which the gradient of a target flows are looked at.
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
        if not leads[node]:
            continue
        for following in nexts:
            user, leaf = _through_copies(node, following)
            if leaf is not None and user._sequence_nr() < moved.get(leaf.variable, -1):
                found: nn.Parameter = leaf.variable
                return found
    return None


def _through_copies(node: Any, following: Any) -> tuple[Any, Any]:
    """Follow casts and views of a parameter: the node that took it, and its leaf if there is one.

    Autocast saves a low-precision copy, which does not see the parameter move.
    """
    while type(following).__name__ in _COPIES:
        node, following = following, following.next_functions[0][0]
    return node, following if _is_leaf(following) else None


def _is_leaf(node: Any) -> bool:
    return type(node).__name__ == "AccumulateGrad"


def _children_first(root: Any) -> Iterable[Any]:
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
