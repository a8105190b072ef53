"""Perplexity by length on plain text."""
