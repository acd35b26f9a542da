"""The control API of cnmd over HTTP: the network part of the Docker Engine API, and /cnm/v1."""
