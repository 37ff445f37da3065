"""Generated crops and painted parts laid over the portrait at its own resolution, in torch and in bytes."""
