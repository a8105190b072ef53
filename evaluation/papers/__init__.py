"""Benchmark columns of papers: what they ask, and what their numbers are means of."""
