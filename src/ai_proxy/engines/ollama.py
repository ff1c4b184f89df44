"""Ollama: many models behind one server, loaded and dropped by itself.

It needs no busy probe, as it does no work without an open request. It is put to sleep model by model
(`keep_alive: 0`), which takes the models' names and so is no call of the profile.
"""

from ai_proxy.config.models import EngineType
from ai_proxy.engines.profile import Dialect, Profile

OLLAMA = Profile(
    type=EngineType.OLLAMA,
    port=11434,
    health_path="/api/version",
    dialects=frozenset({Dialect.OPENAI, Dialect.ANTHROPIC, Dialect.OLLAMA}),
)
