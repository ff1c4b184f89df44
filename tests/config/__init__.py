"""Tests of the configuration: every fault named, every layer in its place."""
