"""Sequence parallelism: ranks share a row, by tokens outside attention and by heads inside it."""
