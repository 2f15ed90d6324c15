"""In which size a picture's translation is made, and in which it is written."""

from dataclasses import dataclass

from i2i.engine.inference import reduced_size
from i2i.engine.resample import Size


@dataclass(frozen=True)
class Sizes:
    """The sizes of a job's results; all are height and width in pixels."""

    short_side: int | None  # that pictures are reduced to first
    restore_size: bool
    scale: int  # of the family
    box: Size | None  # that results are reduced to fit in

    def made(self, size: Size) -> Size:
        """Return the size in which the translation of a picture of this size is made."""
        if not self.restore_size:
            size = reduced_size(size, self.short_side)
        return size[0] * self.scale, size[1] * self.scale

    def final(self, size: Size) -> Size:
        """Return the size in which the translation of a picture of this size is written."""
        return fitting_size(self.made(size), self.box)

    def notes(self, size: Size) -> list[str]:
        """Say where the box is not met by a picture of this size, and where it costs work."""
        if self.box is None:
            return []
        final, asked = self.final(size), f"{self.box[1]}x{self.box[0]}"
        if final[0] < self.box[0] and final[1] < self.box[1]:
            return [f"the result is smaller than the {asked} asked for: left as it is"]
        if self.scale > 1 and max(final) <= max(size):
            return [
                f"enlarged by {self.scale}, then reduced: {asked} is no larger than the picture was"
            ]
        return []


def fitting_size(size: Size, box: Size | None) -> Size:
    """Return the largest size of this shape in the box, or ``size`` where that is smaller.

    The side that meets the box is as long as it, the other rounded to the nearest pixel, and at
    least 1.
    """
    if box is None or (size[0] <= box[0] and size[1] <= box[1]):
        return size
    (height, width), (top, across) = size, box
    if height * across > width * top:
        return top, max(1, (2 * width * top + height) // (2 * height))
    return max(1, (2 * height * across + width) // (2 * width)), across
