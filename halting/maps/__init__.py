"""The record of a run over some tokens, without torch, and what is computed from it."""
