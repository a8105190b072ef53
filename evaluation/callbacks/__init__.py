"""Benchmarks while a model is trained."""
