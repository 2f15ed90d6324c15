"""CycleGAN (arXiv:1703.10593): unpaired translation between two picture domains."""
