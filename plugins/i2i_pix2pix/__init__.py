"""pix2pix (arXiv:1611.07004): paired translation with a conditional adversary."""
