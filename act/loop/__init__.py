"""THE loop, what it records, and how gradients go back through it."""
