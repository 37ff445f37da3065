"""Published weights (Stable Diffusion 1.5, AnimateDiff v2, CLIP, Wav2Vec 2.0) in MCDM's places."""
