"""Benchmarks of convexnn, rerun by ``python -m benchmarks``; not part of the wheel."""
