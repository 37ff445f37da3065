"""Networks that others published, which the user has exported: SyncNet, and any of pictures or clips."""
