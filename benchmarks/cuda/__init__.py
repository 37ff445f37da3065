"""What a GPU does with the presets: ``python -m benchmarks.cuda``."""
