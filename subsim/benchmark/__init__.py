"""Benchmarks: timings of subsim and its peers, and the machine's peak."""
