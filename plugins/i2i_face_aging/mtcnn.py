"""A face detector of three small cascaded networks: MTCNN (arXiv:1604.02878, figures 1 and 2).

Pictures are (3, H, W) float32 RGB in [-1, 1]. Boxes are (left, top, right, bottom) between pixels:
a picture goes from 0 to its width, and the centre of its first pixel is at 0.5.
"""

from dataclasses import dataclass
from functools import cache
from importlib import resources

import torch
from safetensors.torch import load as read_safetensors
from torch import Tensor, nn
from torch.nn import functional as F

LANDMARKS = ("left eye", "right eye", "nose", "left corner of the mouth", "right corner")
"""What the five points of a face are; left and right as one sees them in the picture."""

SMALLEST = 12  # pixels a side of the faces that the first network sees
_FACTOR = 0.709  # from a level of the pyramid to the next: half the area, as the authors have it
_PROPOSED, _REFINED, _DECIDED = 0.6, 0.7, 0.6  # scores of what passes each network
_MOST = 3000  # candidates that reach the second network: no picture may take minutes
_CHUNK = 512  # candidates in one batch: bounds the memory
_USUAL = ((0.343, 0.411), (0.682, 0.411), (0.510, 0.611), (0.359, 0.758), (0.665, 0.759))
"""Where the landmarks of an upright face are in its box: medians on UTKFace."""


@dataclass(frozen=True)
class Found:
    """Faces, the surest first: (N, 4) boxes, (N,) scores in [0, 1], (N, 5, 2) landmarks (x, y)."""

    boxes: Tensor
    scores: Tensor
    landmarks: Tensor


class Cascade(nn.Module):
    """The three networks; the last layer of each gives 2 logits, 4 offsets and 10 coordinates.

    Offsets and coordinates are fractions of the box's width and height; only the third network
    has coordinates, first all x, then all y.
    """

    def __init__(self) -> None:
        super().__init__()
        self.propose = nn.Sequential(
            *_convolution(3, 10, 3, pool=2),
            *_convolution(10, 16, 3),
            *_convolution(16, 32, 3),
            nn.Conv2d(32, 6, 1),
        )
        self.refine = nn.Sequential(
            *_convolution(3, 28, 3, pool=3),
            *_convolution(28, 48, 3, pool=3),
            *_convolution(48, 64, 2),
            nn.Flatten(),
            nn.Linear(576, 128),
            nn.PReLU(128),
            nn.Linear(128, 6),
        )
        self.decide = nn.Sequential(
            *_convolution(3, 32, 3, pool=3),
            *_convolution(32, 64, 3, pool=3),
            *_convolution(64, 64, 3, pool=2),
            *_convolution(64, 128, 2),
            nn.Flatten(),
            nn.Linear(1152, 256),
            nn.PReLU(256),
            nn.Linear(256, 16),
        )

    @torch.inference_mode()
    def forward(self, picture: Tensor, smallest: float, surest: float) -> Found:
        """Find the faces from ``smallest`` pixels a side whose score is at least ``surest``.

        The third network looks twice, the second time with the face turned upright: its landmarks
        are the second ones, its score is the mean of both.
        """
        picture = picture * (127.5 / 128)  # they subtracted 127.5 and divided by 128
        boxes = self._proposals(picture, smallest)
        levels = _halvings(picture)
        boxes, scores, seen = _judge(self.refine, levels, boxes, 24, _REFINED)
        kept = _apart(boxes, scores, 0.7)
        boxes = _moved(boxes[kept], seen[kept, :4])
        boxes, scores, seen = _judge(self.decide, levels, boxes, 48, _DECIDED)
        landmarks = _points(seen[:, 4:], _square(boxes))
        boxes = _moved(boxes, seen[:, :4])
        kept = _apart(boxes, scores, 0.7, of_smaller=True)
        frames = _upright(landmarks[kept])
        seen = _looked(self.decide, levels, frames, 48)
        scores = (scores[kept] + seen[:, :2].softmax(1)[:, 1]) / 2
        sure = (scores >= surest).nonzero()[:, 0]
        sure = sure[scores[sure].sort(descending=True, stable=True).indices]
        return Found(boxes[kept][sure], scores[sure], _points(seen[:, 6:], frames)[sure])

    def _proposals(self, picture: Tensor, smallest: float) -> Tensor:
        """Return the boxes that the first network takes for faces, at all levels of a pyramid."""
        height, width = picture.shape[1:]
        scale = SMALLEST / smallest
        boxes, scores = [picture.new_zeros(0, 4)], [picture.new_zeros(0)]
        while min(height, width) * scale >= SMALLEST:
            level = _resized(picture, round(height * scale), round(width * scale))
            seen = self.propose(level[None])[0]
            score = seen[:2].softmax(0)[1]
            y, x = (score >= _PROPOSED).nonzero(as_tuple=True)
            corner = 2 * torch.stack([x, y, x, y], 1)
            steps = picture.new_tensor([width / level.shape[2], height / level.shape[1]]).repeat(2)
            found = (corner + corner.new_tensor([0, 0, SMALLEST, SMALLEST])) * steps
            found = torch.cat([found, seen[2:, y, x].T], 1)
            kept = _apart(found[:, :4], score[y, x], 0.5)
            boxes.append(_moved(found[kept, :4], found[kept, 4:]))
            scores.append(score[y, x][kept])
            scale *= _FACTOR
        every, sure = torch.cat(boxes), torch.cat(scores)
        return every[_apart(every, sure, 0.7)[:_MOST]]


@cache
def detector() -> Cascade:
    """Return the networks with the weights that come with the plugin, on the CPU."""
    file = resources.files("i2i_face_aging") / "shipped" / "mtcnn.safetensors"
    state = read_safetensors(file.read_bytes())
    with torch.device("meta"):  # no draw from the generator of a training
        cascade = Cascade()
    cascade.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)
    return cascade.eval().requires_grad_(False)


def similarity(of: Tensor, to: Tensor) -> tuple[Tensor, Tensor]:
    """Return a and b (N,), complex, of the similarities x -> a x + b nearest to ``of`` -> ``to``.

    ``of`` (P, 2) are points, ``to`` (N, P) complex ones. Least squares (Umeyama, IEEE PAMI 13(4),
    1991), without reflections: in complex numbers a regression on one variable.
    """
    points = torch.view_as_complex(of.contiguous())
    spread = points - points.mean()
    slope = to @ spread.conj() / spread.abs().square().sum()
    return slope, to.mean(1) - slope * points.mean()


def _convolution(before: int, after: int, kernel: int, pool: int = 0) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(before, after, kernel), nn.PReLU(after)]
    if pool:
        layers.append(nn.MaxPool2d(pool, 2, ceil_mode=True))
    return layers


def _resized(picture: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(picture[None], (height, width), mode="bilinear", antialias=True)[0]


def _halvings(picture: Tensor) -> list[Tensor]:
    """Return the picture, its half, its quarter, and so on down to 48 pixels."""
    levels = [picture]
    while min(levels[-1].shape[1:]) >= 96:
        levels.append(_resized(picture, *(round(side / 2) for side in levels[-1].shape[1:])))
    return levels


def _judge(
    network: nn.Module, levels: list[Tensor], boxes: Tensor, side: int, surest: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the squares about the boxes that score enough, the scores, and the rest seen."""
    frames = _square(boxes)
    seen = _looked(network, levels, frames, side)
    scores = seen[:, :2].softmax(1)[:, 1]
    good = scores >= surest
    centres, half = frames[good, :2], frames[good, 2:3]
    return torch.cat([centres - half, centres + half], 1), scores[good], seen[good, 2:]


def _looked(network: nn.Module, levels: list[Tensor], frames: Tensor, side: int) -> Tensor:
    """Return what a network says of the squares in these frames (n, 4).

    A frame is the centre of a square, and the way from there to the middle of its right side. Each
    is cut from the level where it is one to two times as large as the network wants it: no finer
    pattern is skipped. Beyond the picture is its edge.
    """
    height, width = levels[0].shape[1:]
    sizes = 2 * frames[:, 2:].norm(dim=1).clamp(min=1e-3)
    level_of = (sizes / side).log2().floor().long().clamp(0, len(levels) - 1)
    across = (torch.arange(side) + 0.5) / side * 2 - 1
    y, x = torch.meshgrid(across, across, indexing="ij")
    seen = [frames.new_zeros(0, 16)]
    for start in range(0, len(frames), _CHUNK):
        chosen, at = level_of[start : start + _CHUNK], frames[start : start + _CHUNK, :, None, None]
        places = torch.stack(
            [
                (at[:, 0] + x * at[:, 2] - y * at[:, 3]) / width,
                (at[:, 1] + x * at[:, 3] + y * at[:, 2]) / height,
            ],
            3,
        )
        crops = frames.new_empty(len(at), 3, side, side)
        for level in chosen.unique().tolist():
            here = (chosen == level).nonzero()[:, 0]
            rows = 2 * places[here].flatten(0, 1)[None] - 1  # one tall grid for one picture
            cut = F.grid_sample(
                levels[level][None], rows, padding_mode="border", align_corners=False
            )
            crops[here] = cut[0].reshape(3, -1, side, side).transpose(0, 1)
        seen.append(network(crops))
    return torch.cat(seen[1:] or seen)


def _square(boxes: Tensor) -> Tensor:
    """Return the frames of the squares with the boxes' centres and longer sides."""
    half = (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True) / 2
    return torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, half, torch.zeros_like(half)], 1)


def _upright(landmarks: Tensor) -> Tensor:
    """Return the frames in which faces with these landmarks (n, 5, 2) stand as in ``_USUAL``."""
    to = torch.view_as_complex(landmarks.double().contiguous())
    slope, origin = similarity(torch.tensor(_USUAL, dtype=torch.float64), to)
    centres = origin + slope * (0.5 + 0.5j)
    return torch.cat([torch.view_as_real(centres), torch.view_as_real(slope / 2)], 1).float()


def _points(fractions: Tensor, frames: Tensor) -> Tensor:
    """Take points (n, 10), fractions of the square in a frame, first all x, to (n, 5, 2)."""
    x, y = (2 * fractions - 1).reshape(-1, 2, 5).unbind(1)
    left, top, right, down = (column[:, None] for column in frames.unbind(1))
    return torch.stack([left + x * right - y * down, top + x * down + y * right], 2)


def _moved(boxes: Tensor, offsets: Tensor) -> Tensor:
    """Move each side of each box by a fraction of its width or height."""
    sizes = boxes[:, 2:] - boxes[:, :2]
    return boxes + offsets * sizes.repeat(1, 2)


def _apart(boxes: Tensor, scores: Tensor, most: float, *, of_smaller: bool = False) -> Tensor:
    """Return the places of the best boxes, best first, of which no two overlap by over ``most``.

    The overlap is the intersection over the union, or over the smaller of the two boxes. Of equal
    scores the first stays.
    """
    order = scores.sort(descending=True, stable=True).indices
    boxes = boxes[order]
    areas = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)
    left = torch.arange(len(boxes))
    kept = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(int(best))
        corners = torch.maximum(boxes[best, :2], boxes[left, :2])
        shared = (torch.minimum(boxes[best, 2:], boxes[left, 2:]) - corners).clamp(min=0).prod(1)
        if of_smaller:
            against = torch.minimum(areas[best], areas[left])
        else:
            against = areas[best] + areas[left] - shared
        left = left[shared <= most * against]
    return order[torch.tensor(kept, dtype=torch.long)]
