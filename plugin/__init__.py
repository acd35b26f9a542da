"""The faces that dockerd sees: a network driver and an IPAM driver over Docker's plugin protocol."""
