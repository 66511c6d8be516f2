"""Weights: checkpoint folders with their card, import and export of other projects' files, published weights."""
