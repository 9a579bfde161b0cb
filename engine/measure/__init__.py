"""Throughput and cost."""
