"""Configuration: one YAML file becomes one frozen `Config`, or a list of every fault in it."""
