"""The process runtime and its parts."""
