"""Quality and diversity of generated items, measured against data, and the names of metrics."""
