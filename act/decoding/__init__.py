"""Generation, one token after the other, each at its own depth."""
