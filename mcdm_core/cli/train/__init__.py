"""``train`` and ``plan``: the stages of every preset, adapters, and what they will cost."""
