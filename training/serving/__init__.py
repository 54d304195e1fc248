"""`ponder serve`: ponder maps of typed texts, over HTTP."""
