"""The scheduler: who gets the devices, decided by pure functions around one owner."""
