"""Run folders: what a training leaves behind, and reading it again."""
