"""llama-swap's macros, filled in as it does: the last that was defined first, so that each may use earlier ones.

Pure. `${PORT}` becomes our placeholder; references to the environment stay references.
"""

import re
from collections.abc import Mapping

from ai_proxy.config.importing.draft import ENV_CLOSES, ENV_OPENS, PORT

_ENV = re.compile(r"\$\{env\.([A-Za-z_][A-Za-z0-9_]*)\}")
_REST = re.compile(r"\$\{([A-Za-z0-9_.-]+)\}")


class Macros:
    """What one model's texts may refer to.

    Args:
        model_id: Stands for `${MODEL_ID}`.
        of_all: The macros at the top, in the order of the file.
        own: The model's, which come before those of the same name.
    """

    def __init__(self, model_id: str, of_all: Mapping[str, str], own: Mapping[str, str]) -> None:
        # A macro that a model overrides keeps its place in the order.
        self._values = {"MODEL_ID": model_id, **of_all, **own}

    def __repr__(self) -> str:
        return f"<Macros {', '.join(self._values)}>"

    def fill(self, text: str) -> str:
        """Fill in everything that is known.

        Example:
            >>> macros = Macros("qwen", {"ctx": "4096", "args": "-c ${ctx}"}, {"ctx": "8192"})
            >>> macros.fill("serve ${MODEL_ID} ${args} --port ${PORT} ${nobody}")
            'serve qwen -c 8192 --port {port} ${nobody}'
        """
        for name, value in reversed(self._values.items()):
            text = text.replace(f"${{{name}}}", value)
        return mark_env(text.replace("${PORT}", PORT))


def mark_env(text: str) -> str:
    """Mark references to the environment, for the writer to write them in our way."""
    return _ENV.sub(rf"{ENV_OPENS}\1{ENV_CLOSES}", text)


def unknown(text: str) -> list[str]:
    """The names that nothing was filled in for.

    Example:
        >>> unknown("serve ${nobody} {port}")
        ['nobody']
    """
    return _REST.findall(text)
