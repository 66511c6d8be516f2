"""Weights from elsewhere, and the card that travels with every checkpoint."""
