"""The contract of an importer: what the author of a family writes so that foreign models load.

An importer sees the names and shapes of a checkpoint, never its values, and says what they mean.
Everything else is the core's: reading the file without running it, unpacking wrappers, comparing
each tensor with the family's networks, and the message where they differ.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

Shapes = Mapping[str, tuple[int, ...]]
"""The tensors of a checkpoint by name, in the file's order."""


@dataclass(frozen=True)
class Reading:
    """What an importer makes of a checkpoint's names and shapes."""

    options: Mapping[str, Any]
    """The family's options that the checkpoint implies."""

    names: Mapping[str, str]
    """The checkpoint's tensors, each with its name in the translator, such as "a2b.stem.weight".

    All that should be there with these options, in the network's order, whether it is or not: the
    core names the first that is missing.
    """

    unused: frozenset[str] = frozenset()
    """Tensors of the checkpoint that no translation needs; any other that is unnamed is refused."""

    reasons: Mapping[str, str] = field(default_factory=dict)
    """What explains that a tensor should be there, such as "num_blocks=9 asks for it"."""

    undecided: Mapping[str, str] = field(default_factory=dict)
    """Options that names and shapes cannot tell, each with what to choose by."""

    request: Mapping[str, Any] = field(default_factory=dict)
    """The request that translation starts from."""

    notes: tuple[str, ...] = ()
    """What the person should know, such as that something was left out."""


class Importer(ABC):
    """Reads the checkpoints of one foreign program into one family."""

    family: ClassVar[str]
    """The family that it imports to."""

    preferred: ClassVar[tuple[str, ...]] = ()
    """Names of parts to take where several networks of a file fit, such as "params_ema"."""

    @abstractmethod
    def read(self, shapes: Shapes, chosen: Mapping[str, Any]) -> Reading | None:
        """Say what a checkpoint's names and shapes mean; None if they are another program's.

        ``chosen`` are the options that the person gave, already of the right type. The file may be
        damaged or incomplete: guess what was meant, for the core compares and reports.
        """
