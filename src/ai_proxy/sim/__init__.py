"""The scheduler on a virtual clock over a trace: capacity planning and comparison of policies."""
