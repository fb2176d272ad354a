"""The tests: laws beside the packages that they hold for, and what they share.

Models whose answers are known exactly, with graphs that are written node by node (`handmade`):
    toy (a VAE of binary items), toy_gan, toy_table, toy_conditional; `damage` breaks a version of one.
Networks of torch, as a stranger writes them, and the same as ONNX files:
    networks
A real service, and waiting for what it does:
    serving (a process), registries (its registry alone, in this process), waiting, ports
A program that may not enter the folders of others, though root runs the tests:
    unprivileged

The versions that are published, and what of a file is on the disk:
    published, disk

What one folder alone shares lies in that folder; fixtures are in its `conftest.py`.
"""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # A worker for every core: threads of its own would spin while another worker computes. In measures of
    # quality that costs more than twice the CPU time. Set before a test loads what reads it.
    for library in ("OMP", "OPENBLAS"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
