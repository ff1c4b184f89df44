"""The files of the tree that are written by code, and the code that writes each.

A generator is given the file's present text, so that it may renew a part and keep what was written by hand around it.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from ai_proxy.config import reference
from ai_proxy.services import machine

DOCS = Path("docs")

STATES = """\
# States of a replica

Written by `python -m tests.check --fix` from the table in `src/ai_proxy/services/machine.py`, the only place where a
transition is defined. An event that a state does not list is an `IllegalTransition`.

```mermaid
{diagram}
```

| in | on | goes to | and asks for |
| --- | --- | --- | --- |
{rows}

Settled, until something is asked for: {settled}. Holding devices and memory: {holding}.
"""


def states_page(_: str) -> str:
    """The state machine as a diagram and a table."""
    rows = [
        f"| {state} | {event} | {target} | {action or ''} |"
        for state, steps in machine.TRANSITIONS.items()
        for event, (target, action) in steps.items()
    ]
    settled, holding = (", ".join(s for s in machine.State if s in some) for some in (machine.SETTLED, machine.HOLDING))
    return STATES.format(diagram=machine.diagram(), rows="\n".join(rows), settled=settled, holding=holding)


def schema(_: str) -> str:
    """The config file's JSON schema."""
    return json.dumps(reference.json_schema(), indent=2, ensure_ascii=False) + "\n"


GENERATED: Mapping[Path, Callable[[str], str]] = {
    DOCS / reference.PAGE: reference.page,
    DOCS / reference.SCHEMA: schema,
    DOCS / "states.md": states_page,
}
