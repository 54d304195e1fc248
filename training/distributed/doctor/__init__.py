"""What `ponder doctor` looks at."""
