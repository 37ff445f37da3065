"""The browser's page: progress, the player's events, sliders, notes, requests to stop."""
