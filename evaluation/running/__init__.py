"""From a benchmark and a model to scores: prompts, batches, processes, responses on disk."""
