"""The control plane: one object that operators, reloads and the boot act through."""
