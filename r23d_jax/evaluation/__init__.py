"""Evaluation: scores every view of every test video exactly once, computes metrics, and writes the results."""
