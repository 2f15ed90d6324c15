"""How much memory there is, and how much of it a family needs a pixel."""

import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_PRIMITIVES = 1.5  # convolutions reorder and unfold what they read, out of our sight

# Limit, usage and reclaimable bytes of a control group, of version 2 and of version 1.
_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def available(mount: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Return how many bytes can be had without swapping, by the machine and its control groups."""
    found = [int(psutil.virtual_memory().available)]
    for group in _groups(mount, own):
        for limit_file, usage_file, reclaimable in _FILES:
            try:
                limit = int((group / limit_file).read_text())
                usage = int((group / usage_file).read_text())
                statistics = (group / "memory.stat").read_text().split()
                cache = int(statistics[statistics.index(reclaimable) + 1])
            except (OSError, ValueError):  # no such group, or one without a limit: "max"
                continue
            found.append(max(0, limit - usage + cache))
    return min(found)


def _groups(mount: Path, own: Path) -> Iterator[Path]:
    """Yield our control group and those around it: each may have a limit."""
    try:
        lines = own.read_text().splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            group = mount / controllers / path.strip("/")
            while group.is_relative_to(mount):
                yield group
                group = group.parent


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
