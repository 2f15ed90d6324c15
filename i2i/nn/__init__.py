"""What the networks of two families or more share."""

from i2i.nn.pretrained import pretrained

__all__ = ["pretrained"]
