"""The kernels that prefix-shared attention runs on: sdpa everywhere, flash on GPUs; sinks and soft-caps in both."""
