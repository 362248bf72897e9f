"""One training run: the loop, and what it writes."""
