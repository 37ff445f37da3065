"""Pre-training of the audio encoder."""
