"""Partitions: words, resolved to one weight per atom."""

from duetto.partition.regions.partition import Blend, RegionCounts, Regions, count_regions
from duetto.partition.regions.resolved import Partition

__all__ = ["Blend", "Partition", "RegionCounts", "Regions", "count_regions"]
