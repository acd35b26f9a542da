"""Policy: a constant ruleset, and the elements that networks, endpoints and ports put into it."""
