"""An old checkout and this one, measured in turns: ``python -m benchmarks.comparison --help``."""
