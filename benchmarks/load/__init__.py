"""Out-of-process load: the proxy on one core, upstream and clients on another, CPU per request as the figure."""
