"""Tests of `ai_proxy.scheduler`."""
