"""Videos that are made clip by clip into a folder, and such folders of earlier runs."""
