"""Facial motion: storing, editing, plotting, blinks, corrections of pose."""
