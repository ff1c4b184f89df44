"""Data plane: finds the service of a request, asks for a grant and relays the exchange."""
