"""A published version: its manifest, its files, and the aliases of a model's versions."""
