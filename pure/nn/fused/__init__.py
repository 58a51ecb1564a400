"""The paths that compute a product unit's logarithm and exponential faster than the formulas do."""
