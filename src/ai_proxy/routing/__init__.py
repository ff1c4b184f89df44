"""Which service a request is for: by path, by header, by the model it names. Pure; no I/O, no clock."""
