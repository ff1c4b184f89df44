"""What is wrong with a config: one line a fault, all faults at once.

Owns the form in which faults are shown. Knows nothing of YAML or of the models; whoever finds a fault says where it is.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing to mend.

    Attributes:
        file: The file to open.
        line: The line to go to, from 1; 0 where the file as a whole is meant.
        key: Path of the key, dots between its parts; empty for the whole file.
        message: What is wrong.
        fix: What to write instead.

    Example:
        >>> print(Fault("ai-proxy.yaml", 12, "services.chat.port", "not a whole number: 'http'", "write 8080"))
        ai-proxy.yaml:12: services.chat.port: not a whole number: 'http'; fix: write 8080
    """

    file: str
    line: int
    key: str
    message: str
    fix: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        key = f"{self.key}: " if self.key else ""
        fix = f"; fix: {self.fix}" if self.fix else ""
        return f"{place}: {key}{self.message}{fix}"


class ConfigError(Exception):
    """A config that can't be used; `str()` lists every fault, one a line, in the order of the file.

    Args:
        faults: What was found; repeated faults (an anchor used twice) count once.
    """

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(set(faults)))
        super().__init__("\n".join(str(fault) for fault in self.faults))
