"""Runs benchmarks on models: prompts, batches, processes, responses on disk, scores."""
