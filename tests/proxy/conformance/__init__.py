"""Cases from the RFCs, section by section, over the whole data plane."""
