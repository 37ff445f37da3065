"""The modules of the paper, one a file."""
