"""Measurements of generated videos: lip movement against the sound and identity against the portrait."""
