"""The files of the tree that are written by code, and the code that writes each."""

from collections.abc import Callable, Mapping

GENERATED: Mapping[str, Callable[[], str]] = {}
