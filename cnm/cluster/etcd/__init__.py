"""A small client of etcd over gRPC: certificates as identity, its own failover, watches that go on by themselves."""

import os

# gRPC reads these when it is loaded. Children that we start exec at once; its handlers would stop its threads around
# each fork. And what it logs by itself is in the errors that we raise.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
