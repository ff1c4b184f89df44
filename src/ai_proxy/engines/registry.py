"""Every engine's profile, and what holds for a service once its own settings are laid over its engine's.

Pure look-ups; whoever needs a service's port, health path or deadline asks here, never the config alone.
"""

from collections.abc import Mapping
from types import MappingProxyType

from ai_proxy.config.models import EngineType, ServiceConfig
from ai_proxy.engines.comfyui import COMFYUI
from ai_proxy.engines.generic import GENERIC
from ai_proxy.engines.llama_cpp_server import LLAMA_CPP_SERVER
from ai_proxy.engines.ollama import OLLAMA
from ai_proxy.engines.profile import Profile, SleepLevel
from ai_proxy.engines.vllm import VLLM
from ai_proxy.engines.whisper import WHISPER

PROFILES: Mapping[EngineType, Profile] = MappingProxyType(
    {profile.type: profile for profile in (LLAMA_CPP_SERVER, VLLM, OLLAMA, WHISPER, COMFYUI, GENERIC)}
)
"""What is known of each engine."""


def profile_of(service: ServiceConfig) -> Profile:
    """The profile of a service's engine."""
    return PROFILES[service.type]


def port_of(service: ServiceConfig) -> int:
    """Where the server inside listens, unless its runtime gave it a port.

    Example:
        >>> port_of(ServiceConfig(image="x", type=EngineType.OLLAMA))
        11434
    """
    return service.port or profile_of(service).port


def health_path_of(service: ServiceConfig) -> str:
    """The path that answers 2xx once the service can serve."""
    return service.health.path or profile_of(service).health_path


def is_ready(service: ServiceConfig, status: int) -> bool:
    """Whether a status at `health_path_of(service)` means that it can serve; 0 stands for no answer.

    Example:
        >>> is_ready(ServiceConfig(image="x"), 404), is_ready(ServiceConfig(image="x", type=EngineType.VLLM), 404)
        (True, False)
    """
    if profile_of(service).any_answer and service.health.path is None:
        return 0 < status < 500
    return 200 <= status < 300


def start_timeout_of(service: ServiceConfig) -> float:
    """How long a start may take until it is ready, in seconds.

    Example:
        >>> start_timeout_of(ServiceConfig(image="x", type=EngineType.VLLM))
        1800
    """
    return service.health.start_timeout_s or profile_of(service).start_timeout_s


def sleep_levels_of(service: ServiceConfig) -> tuple[SleepLevel, ...]:
    """The levels at which a service may be put to sleep, the one that keeps most first.

    Example:
        >>> levels = lambda **keys: [it.level for it in sleep_levels_of(ServiceConfig(image="x", **keys))]
        >>> levels(type=EngineType.COMFYUI), levels(type=EngineType.COMFYUI, sleep="off"), levels(type=EngineType.VLLM)
        ([1], [], [])
        >>> levels(type=EngineType.VLLM, sleep=(1, 2))
        [1, 2]
    """
    profile, wish = profile_of(service), service.sleep
    if wish == "off":
        return ()
    if wish == "auto":
        return tuple(level for level in profile.sleep if level.by_default) if profile.may_sleep(service) else ()
    return tuple(level for level in profile.sleep if level.level in wish)
