"""The reference model, and the cache of its log-probabilities."""
