"""Several runs as one: all splits, two streams, a ladder of networks, and tables of results."""
