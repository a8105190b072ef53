"""One paper, one recipe: how a record becomes a pair."""
