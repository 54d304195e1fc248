"""Checkpoints: what is in them, whether they are whole, and going on from them."""
