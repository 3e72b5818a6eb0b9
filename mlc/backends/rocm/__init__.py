"""AMD GPUs: gpu.module to code objects, and the runtime that runs them through HIP."""
