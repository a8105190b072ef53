"""The reference, and where its log-probabilities are kept."""
