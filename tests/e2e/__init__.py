"""The whole program on real sockets, processes and engines."""
