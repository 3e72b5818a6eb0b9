"""choose-mapping on GPUs: threads, warps, vectors and shared memory of a kernel."""
