"""Training of the face network."""
