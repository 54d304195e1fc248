"""A signal at every moment, to every process, under every launcher: a save, or a word."""
