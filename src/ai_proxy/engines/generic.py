"""A server of which nothing is known but that it speaks HTTP: ready when `/` answers, whatever it says."""

from ai_proxy.config.models import EngineType
from ai_proxy.engines.profile import Profile

GENERIC = Profile(type=EngineType.GENERIC, port=8000, health_path="/", any_answer=True)
