"""Sources of records for a build, and the measuring and cutting of their texts."""
