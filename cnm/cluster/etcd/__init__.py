"""A small client of etcd over gRPC: certificates as identity, its own failover, watches that go on by themselves."""
