"""Training of the denoiser on parts of a face: mouth and eyes, painted from motion tokens and the archive."""
