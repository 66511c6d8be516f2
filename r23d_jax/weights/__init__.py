"""Weights: checkpoint folders and their card, files of other projects in and out, published weights by name."""
