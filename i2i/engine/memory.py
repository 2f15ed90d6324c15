"""How much memory there is, and how much of it a family needs a pixel."""

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_PRIMITIVES = 1.5  # convolutions reorder and unfold what they read, out of our sight

_GROUPS = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat",
     "total_inactive_file"),
)  # fmt: skip


def available(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many bytes can be had without swapping, by the machine and its control group."""
    found = [int(psutil.virtual_memory().available)]
    for limit_file, usage_file, statistics_file, reclaimable in _GROUPS:
        try:
            limit = int((groups / limit_file).read_text())
            usage = int((groups / usage_file).read_text())
            statistics = (groups / statistics_file).read_text().split()
        except (OSError, ValueError):  # no such group, or one without a limit: "max"
            continue
        cache = int(statistics[statistics.index(reclaimable) + 1])
        found.append(max(0, limit - usage + cache))
    return min(found)


def bytes_a_pixel(run: Callable[[Tensor], Tensor], image: Tensor) -> float:
    """Return the most memory that ``run`` holds at once on (1, C, H, W), a pixel of it.

    Counted are the tensors that PyTorch makes on the way, with a margin for what its convolutions
    use inside; networks need as much a pixel on pictures of every size, near enough.
    """
    with _Meter() as meter:
        run(image)
    held: int = meter.peak
    return _PRIMITIVES * held / (image.shape[-2] * image.shape[-1])


class _Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storages that operations make, as long as each is in use."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = self._held = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        for each in result if isinstance(result, tuple | list) else (result,):
            if isinstance(each, Tensor):
                self._count(each.untyped_storage())
        self.peak = max(self.peak, self._held)
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        address = storage.data_ptr()
        if address in self._seen or not storage.nbytes():
            return
        self._seen.add(address)
        self._held += storage.nbytes()
        weakref.finalize(storage, self._release, address, storage.nbytes())

    def _release(self, address: int, size: int) -> None:
        self._seen.discard(address)
        self._held -= size
