"""Mechanism: the only code that touches the kernel. It knows records, not networks or endpoints."""
