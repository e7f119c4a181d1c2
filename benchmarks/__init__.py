"""Measurements of the whole: `python -m benchmarks` runs all of them, `benchmarks/README.md` is what they gave."""
