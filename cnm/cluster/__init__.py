"""Many hosts as one: what they share is in etcd, and each follows it. `keys` says what is where."""
