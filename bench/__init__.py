"""What the daemon's verbs cost, beside the least that the kernel itself costs and beside other programs."""
