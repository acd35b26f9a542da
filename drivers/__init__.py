"""Network drivers: pure functions from the nouns to kernel state, one module a driver."""
