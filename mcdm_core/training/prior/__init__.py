"""Training of the present-clip prior."""
