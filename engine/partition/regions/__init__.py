"""Partitions: words, resolved to one weight per atom."""

from duetto.partition.regions.partition import Blend, RegionCounts, Regions, count_regions

__all__ = ["Blend", "RegionCounts", "Regions", "count_regions"]
