"""cnm-relay: the user-space relay for published ports that NAT cannot serve; an unprivileged process of its own.

It is handed bound sockets by cnmd over its control socket and carries what arrives there to containers: between
address families, and from the host's own [::1] where br_netfilter stands in the way. It outlives restarts of cnmd.
"""
