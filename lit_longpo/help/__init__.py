"""Help of the commands: examples, layout, and the texts that are shown without importing any library."""
