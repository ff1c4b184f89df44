"""Ollama: many models behind one server, loaded at a request and dropped by itself or when asked.

It needs no busy probe, as it does no work without an open request. A request with `keep_alive: 0` and no prompt unloads
a model at once; each has a process of its own, so nothing of it stays on the device.
"""

import json

from ai_proxy.config.models import EngineType
from ai_proxy.engines.profile import Call, Dialect, EachOf, Profile, Question, SleepLevel


def _loaded(body: bytes) -> list[str]:
    """Read `GET /api/ps`: an object with `models`, each with its `name`."""
    loaded = json.loads(body)
    models = loaded.get("models") if isinstance(loaded, dict) else None
    if not isinstance(models, list):
        raise ValueError("not a list of models")
    return [str(model["name"]) for model in models if isinstance(model, dict) and "name" in model]


def _unload_each(body: bytes) -> tuple[Call, ...]:
    r"""One call for each loaded model.

    Example:
        >>> _unload_each(b'{"models": [{"name": "phi4:14b"}]}')[0].body
        b'{"model": "phi4:14b", "keep_alive": 0}'
    """
    return tuple(
        Call("POST", "/api/generate", json.dumps({"model": name, "keep_alive": 0}).encode()) for name in _loaded(body)
    )


OLLAMA = Profile(
    type=EngineType.OLLAMA,
    port=11434,
    health_path="/api/version",
    dialects=frozenset({Dialect.OPENAI, Dialect.ANTHROPIC, Dialect.OLLAMA}),
    sleep=(
        SleepLevel(1, (EachOf("/api/ps", _unload_each),), asleep=Question("/api/ps", lambda body: not _loaded(body))),
    ),
)
