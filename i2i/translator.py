"""The contract between a translation family and the engine: what a plugin author reads.

A GAN is a game between players. A family says what each player minimises and in which order they
move; the engine decides how: precision, clipping, accumulation, averaging, logging, checkpoints.
The training step is a generator, and each ``yield`` is one move. The rules:

- What is yielded depends on ``now`` and the options, never on data. Never yield inside ``with``.
- After a yield, compute again whatever passed through a parameter that moved.
- ``grow`` sees shapes, never pixels.
- Whatever must survive a resume is a parameter or a buffer.
- Randomness comes from ``now.normal`` and ``now.uniform``, keyed by sample. Dropout may use the
  global generator, which the engine seeds anew for each segment.
- ``translate`` treats pictures independently and leaves the global generator alone.

A family that breaks one is told which, where, and what to change. ``i2i.testing.check_translator``
runs them all.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel
from torch import Tensor, nn

from i2i.types import Batch, Fit, Inputs, Progress, Region, Update


class Translator(nn.Module, ABC):
    """One translation family: its networks, its game and its way of translating a picture."""

    name: ClassVar[str]
    """The family's name, as recipes spell it."""

    Options: ClassVar[type[BaseModel]]
    """The recipe's ``[model]``: architecture and loss weights; frozen, extra keys forbidden."""

    Request: ClassVar[type[BaseModel]]
    """What a caller may ask when translating (``--set``); frozen, with a default for each field."""

    inputs: ClassVar[Inputs]
    """The image roles and labels that a batch brings."""

    exported: ClassVar[tuple[str, ...]]
    """The submodules that ``translate`` needs: only these go into a model file."""

    def __init__(self, options: Any) -> None:
        """Build the networks from validated ``options``; the engine has set the seed."""
        super().__init__()
        self.options = options

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the training stages, in order; each is a ``[stages.NAME]`` of the recipe."""
        return ("train",)

    @property
    @abstractmethod
    def fit(self) -> Fit:
        """Which picture sizes ``translate`` takes and returns."""

    @property
    def compared(self) -> tuple[str, str] | None:
        """The roles that 'i2i evaluate' takes: what is translated, and what it should become.

        Of a family of pairs its two roles in their order; None where no picture has a target.
        """
        source, *others = self.inputs.images
        return (source, others[0]) if self.inputs.paired and len(others) == 1 else None

    def grow(self, stage: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Build what a stage needs and only data can size: modules, pools.

        Called once as the stage begins, with the (C, H, W) of each role, on the CPU, under a
        generator seeded by (seed, stage); loading a model file calls it again with the same shapes.
        """

    @classmethod
    def upgrade(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the options of an older model file in today's words: files are for good."""
        return options

    @abstractmethod
    def players(self, stage: str) -> Mapping[str, Iterable[nn.Parameter]]:
        """Who owns which parameters in ``stage``; each player has an optimizer of its own."""

    @abstractmethod
    def training_step(self, batch: Batch, now: Progress) -> Iterator[Update]:
        """Play one step: a generator that yields one ``Update`` a move."""

    def after_step(self, now: Progress, measured: Mapping[str, float]) -> None:
        """Change state that follows from the step's terms and measurements (by name), if any."""

    @classmethod
    def variants(cls, request: Any) -> Mapping[str, Any]:
        """Return the requests that ``request`` stands for, each under the name of its variant.

        A folder job translates each picture by each of them, in their order, and writes
        ``STEM.<variant>.ext``, or ``STEM.ext`` for the name "". Only they reach ``check_request``
        and ``translate``, and each stands for itself alone.
        """
        return {"": request}

    def check_request(self, request: Any) -> None:
        """Raise UsageError for a request that these weights cannot answer, before any work."""

    def locates(self, request: Any) -> bool:
        """Whether ``locate`` is to be asked: it needs the whole picture in float32."""
        return type(self).locate is not Translator.locate

    def locate(self, image: Tensor, request: Any) -> Sequence[Region] | None:
        """Say which parts of a photograph are translated; None, the default, is the whole picture.

        ``image`` is (C, H, W) float32 in [-1, 1] on the CPU, at its full size. Each region is cut
        out, translated as a picture file of its own would be, and pasted back softly; the family
        takes and returns RGB at scale 1. Raises ImageError where there is nothing to translate.
        Runs without gradients, and leaves the image and the global generators alone.
        """
        return None

    @abstractmethod
    def translate(self, images: Tensor, request: Any) -> Tensor:
        """Translate (N, C, H, W) float32 in [-1, 1] to (N, C', H * scale, W * scale) in [-1, 1].

        Sizes fit ``self.fit``. Runs without gradients; no picture's result may depend on another.
        """
