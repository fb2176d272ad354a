import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # A worker for every core: threads of its own would spin while another worker computes. In measures of
    # quality that costs more than twice the CPU time. Set before a test loads what reads it.
    for library in ("OMP", "OPENBLAS"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
