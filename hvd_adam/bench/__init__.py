"""Timings beside the peers: jobs that take turns in random order, and ratios with intervals."""
