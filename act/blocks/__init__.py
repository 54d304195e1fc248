"""What one step of the loop computes."""
