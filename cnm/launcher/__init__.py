"""cnm-launcher: containers on cnm networks, for the docker CLI and cnmctl."""
