"""Services: the life of a replica as a pure table, and the task that carries its steps out."""
