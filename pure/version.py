"""The version of this package, where who needs nothing else of it pays nothing for it."""

__version__ = "0.1.0"
