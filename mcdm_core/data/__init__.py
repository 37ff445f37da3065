"""Training data: the shard format and its sources."""
