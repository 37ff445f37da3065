"""Synthetic speech: sentences, voices, moods."""
