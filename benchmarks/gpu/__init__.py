"""GPU benchmarks: mlc beside torch on one device, models and kernels, from one command (`run.py`)."""
