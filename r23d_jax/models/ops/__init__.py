"""Formulations of 3D convolutions, and the choice among them by platform and shape."""
