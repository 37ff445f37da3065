"""Photographs as material for motion: other mouths and lids by a warp, eyes painted shut."""
