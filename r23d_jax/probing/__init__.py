"""A classifier on frozen features, chosen by cross-validation: data, features, heads, choice."""
