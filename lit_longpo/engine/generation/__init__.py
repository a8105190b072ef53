"""Answers by transformers' own `generate`, from caches that are computed without padding."""
