"""Commands that make training data: curate, render-data, label-data and label-speech."""
