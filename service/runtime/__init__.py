"""One loaded version: its sessions, batchers, scorer and samplers."""
