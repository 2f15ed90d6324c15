"""Face ageing with conditional GANs: a plugin of i2i."""
