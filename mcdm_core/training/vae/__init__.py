"""Training of the autoencoder."""
