"""Greedy answers through transformers' `generate`, from caches that are computed without padding."""
