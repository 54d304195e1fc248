"""Sweeps: many short trainings, accuracy against compute, and the setting to train for good."""
