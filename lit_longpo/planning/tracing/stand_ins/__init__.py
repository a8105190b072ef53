"""Stand-ins for kernels: they take the memory of these and compute nothing, so that a plan for GPUs needs none."""
