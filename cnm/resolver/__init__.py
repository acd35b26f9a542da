"""cnm-resolver: the DNS server of sandboxes; unprivileged processes of their own.

cnmd hands over the sockets that it opened in each sandbox, and tells who is called what on which network. The resolver
answers from that, and asks the host's or the sandbox's own servers for everything else. It outlives restarts of cnmd.
"""
