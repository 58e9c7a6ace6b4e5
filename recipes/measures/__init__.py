"""What `recipes/benchmark.py` measures, one subject a file."""
