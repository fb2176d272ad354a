"""The HTTP border: one module per resource."""
