"""Videos that survive a stop: clips and their journal on disk."""
