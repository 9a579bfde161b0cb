"""A configuration becomes a run: its files, checkpoints and continuation."""
