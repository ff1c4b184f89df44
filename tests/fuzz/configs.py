"""Config files, whatever they are: a config, or a list of faults that each name a place."""

import tempfile
from functools import cache
from pathlib import Path

from ai_proxy.config.faults import ConfigError
from ai_proxy.config.fields import Rejected
from ai_proxy.config.load import load
from ai_proxy.config.substitute import fill, substitute
from tests.fuzz.judges import Finding

_ENVIRON = {"KEY": "secret", "EMPTY": "", "BRACES": "${KEY}"}


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="ai-proxy-fuzz-")


def check(data: bytes) -> None:
    """Check what must hold of a file.

    Raises:
        Finding: It does not.
    """
    path = Path(_folder().name) / "ai-proxy.yaml"
    path.write_bytes(data)
    try:
        load(path, _ENVIRON)
    except ConfigError as error:
        if not error.faults or not all(fault.message and fault.fix for fault in error.faults):
            raise Finding(f"a fault that says nothing: {error.faults}") from error
    text = data.decode("utf-8", "replace")
    try:
        substitute(text, _ENVIRON)
    except Rejected as error:
        if "secret" in str(error) and "secret" not in text:
            raise Finding("a value of the environment is told") from error
    fill(text, {"port": 80})
