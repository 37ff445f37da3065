"""What the measurements by others' models share, whose environment holds no torch (docs/evaluation.md)."""
