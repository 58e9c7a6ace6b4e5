"""Comparing: every method by name, built alike, judged on the same episodes."""
