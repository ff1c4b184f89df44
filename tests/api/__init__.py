"""Tests of `ai_proxy.api`."""
