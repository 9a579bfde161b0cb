"""A cheap expert from an expensive one: linear least squares with exact constraints."""
