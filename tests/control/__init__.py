"""Tests of `ai_proxy.control`."""
