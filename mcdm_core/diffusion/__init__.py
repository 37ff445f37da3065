"""Diffusion: the noise schedule, what a network predicts, guidance, and DDIM sampling, for motion and for frames."""
