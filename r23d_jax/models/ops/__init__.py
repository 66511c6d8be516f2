"""Formulations of convolutions: which one computes a 3D convolution on which platform."""
