"""Runtimes: the drivers that start and stop replicas, behind one Protocol (`base.Runtime`)."""
