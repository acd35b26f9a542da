"""`cnmctl volume move`: a volume of this host becomes one of another host of the cluster, by TLS between launchers."""
