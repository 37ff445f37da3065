"""Stages 1 and 3 of presets with Stable Diffusion's layout (``base``, ``small``), on curated video."""
