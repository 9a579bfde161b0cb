"""Errors of a pair on labelled frames, and how far its experts are apart."""
