"""Engines: what is known of each kind of server, as data; one small file each."""
