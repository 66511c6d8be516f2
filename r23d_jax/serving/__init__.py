"""Exports of a network for use without this package: StableHLO and TensorFlow's SavedModel."""
