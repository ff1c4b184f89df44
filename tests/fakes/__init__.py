"""Fakes that misbehave on order; no mocks."""
