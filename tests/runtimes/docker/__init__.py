"""Tests of the docker runtime."""
