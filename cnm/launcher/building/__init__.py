"""Images from Dockerfiles: Docker's classic builder in front of podman's."""
