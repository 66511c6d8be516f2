"""Scores: every view of every test video exactly once, metrics over them, and what is written of them."""
