"""Tests of `ai_proxy.services`."""
