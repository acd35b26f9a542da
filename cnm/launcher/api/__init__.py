"""The Docker Engine API on RUN/docker.sock."""
