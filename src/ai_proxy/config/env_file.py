"""Files of `NAME=value` lines, as Compose's `env_file` has them.

Pure: text in, variables out. Quotes around a value are taken off, `#` starts a comment line, nothing is substituted.
"""

import re

from ai_proxy.config.faults import Fault

_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*=\s*(.*)")


def parse_env_file(text: str, file: str) -> tuple[dict[str, str], list[Fault]]:
    r"""Read variables; of a name given twice the last counts.

    Args:
        text: The file's content.
        file: Its name, for faults.

    Returns:
        The variables, and a fault for each line that is none.

    Example:
        >>> parse_env_file("# token\nHF_TOKEN='abc'\n", "hf.env")
        ({'HF_TOKEN': 'abc'}, [])
    """
    variables: dict[str, str] = {}
    faults: list[Fault] = []
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.strip()
        if not content or content.startswith("#"):
            continue
        match = _LINE.fullmatch(content)
        if match is None:
            # The line may hold a secret: it is not shown.
            faults.append(Fault(file, number, "", "not a NAME=value line", "write NAME=value, or # for a comment"))
            continue
        variables[match[1]] = _unquoted(match[2])
    return variables, faults


def _unquoted(value: str) -> str:
    quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "'\""
    return value[1:-1] if quoted else value
