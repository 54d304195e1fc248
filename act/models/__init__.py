"""Whole models around the loop."""
