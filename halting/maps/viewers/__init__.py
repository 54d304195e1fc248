"""What shows a PonderMap: in the terminal, as a picture, as a page."""
