"""Published benchmarks, and needles in a haystack: what they ask and how they are read."""
