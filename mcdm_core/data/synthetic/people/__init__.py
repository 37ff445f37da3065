"""Synthetic people: head, identity, expressions, eyes, visemes."""
