"""Tokenised corpora: from texts to memory-mapped token files, and which rows of them come when."""
