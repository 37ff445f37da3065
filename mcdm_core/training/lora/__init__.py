"""Personal fine-tuning: a low-rank change of the denoiser's attention, learnt from minutes of one person."""
