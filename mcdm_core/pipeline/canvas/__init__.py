"""What of the face crop is painted, and how it comes back into the picture."""
