"""Examples dealt into packed rows: which of them, in which order, on which rank."""
