"""Spatiotemporal convolution networks for action recognition in video, in JAX and Flax.

Importing this package starts no JAX backend and imports neither TensorFlow nor PyTorch.
"""

__version__ = "0.1.0"
