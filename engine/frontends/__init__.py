"""The potential for other people's programs."""
