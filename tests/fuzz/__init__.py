"""Random bytes at every door, judged by what must hold whatever they are."""
