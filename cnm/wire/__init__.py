"""Typed records of every protocol that is spoken on a socket, and their conversions from and to the nouns."""
