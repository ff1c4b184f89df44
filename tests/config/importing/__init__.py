"""Other tools' configs, imported: each key in its new place, or named as left behind."""
