"""One sequence at a time, for models that would mix up a packed row."""
