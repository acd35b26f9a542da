"""Volumes: data that outlives containers, kept by drivers."""
