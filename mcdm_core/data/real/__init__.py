"""Shards of real videos, stills and recordings."""
