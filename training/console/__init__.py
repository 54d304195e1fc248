"""What is printed, and where output files are written."""
