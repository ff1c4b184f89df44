"""Speaches (formerly faster-whisper-server): speech in and out behind OpenAI's audio API.

It loads its models at the first request that names them, so `/health` is 200 long before the first answer.
"""

from ai_proxy.config.models import EngineType
from ai_proxy.engines.profile import Profile

WHISPER = Profile(type=EngineType.WHISPER, port=8000, health_path="/health")
