"""Ponder maps as text in a terminal."""
