"""How well a model does, and how long it thinks."""
