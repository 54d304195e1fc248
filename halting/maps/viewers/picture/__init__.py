"""Ponder maps as pictures."""
