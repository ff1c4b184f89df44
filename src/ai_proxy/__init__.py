"""ai-proxy: one endpoint for all inference services that share a few GPUs."""

__version__ = "0.1.0"
