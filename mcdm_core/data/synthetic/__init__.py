"""Synthetic talking people: exactly labelled training clips from a head model, espeak-ng and a small renderer."""
