"""Layers that several networks share; names of weights as in Stable Diffusion."""
