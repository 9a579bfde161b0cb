"""Throughput of the mixture, of each expert alone, and of nequip, on the same weights."""
