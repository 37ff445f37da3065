"""Training of the denoising UNet with the archived-clip prior."""
