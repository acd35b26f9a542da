"""The HTTP server behind every face of the daemon: sockets, workers, TLS; what is served comes from elsewhere."""
