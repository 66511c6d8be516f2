"""From built shards to augmented clips on the device; each module imports by itself."""
