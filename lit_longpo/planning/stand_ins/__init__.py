"""What kernels take of memory, in their place: a plan for GPUs is made where there is none."""
