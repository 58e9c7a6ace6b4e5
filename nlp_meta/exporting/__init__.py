"""Exporting: an adapted model as files that run without this package, and without torch."""
