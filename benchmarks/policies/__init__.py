"""Policies of eviction compared in the simulator, over many traces and fleets."""
