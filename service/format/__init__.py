"""What a published version is: its manifest, its files, and the aliases of a model's versions."""
