"""cnmctl: one module per noun; an HTTP client of cnmd and nothing else."""
