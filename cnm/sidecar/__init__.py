"""What the processes beside cnmd have in common, on either side of their control sockets.

A sidecar is unprivileged, outlives restarts of cnmd, and is handed its sockets over a control socket in the run
directory. It runs without site packages, so nothing here needs any.
"""
