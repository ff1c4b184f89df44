"""How the proxy fares among many clients that are idle or slow, and with streams that never end."""
