"""A ponder map as one self-contained HTML page."""
