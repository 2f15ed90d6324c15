"""SRGAN (arXiv:1609.04802) and what followed it: super-resolution."""
