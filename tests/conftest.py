import os

# One thread per test process: pytest-xdist runs one process per core. Read when PyTorch and NumPy are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Kernels run on the CPU. Read when triton is imported, which torch.compile does too.
os.environ.setdefault("TRITON_INTERPRET", "1")

from hypothesis import HealthCheck, settings

# The same examples on every run, with no time limit: a slow machine is no failure.
settings.register_profile(
    "course", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("course")
