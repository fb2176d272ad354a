"""`make gpu-check`: everything that only a machine with a GPU can tell, by one command, in eight minutes."""
