"""Questions about a document of one's own, to a trained model and its base side by side."""
