"""Tests of the engine profiles."""
