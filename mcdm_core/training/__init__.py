"""Training: every stage of the paper and of what is ours beside it, one folder each; the loop they share."""
