"""Training of the motion codec."""
