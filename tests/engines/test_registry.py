"""Every engine type has a profile, and the profiles read what their engines say."""

import importlib
import pkgutil

import pytest

from ai_proxy import engines
from ai_proxy.config.models import EngineType, ServiceConfig
from ai_proxy.engines.comfyui import COMFYUI
from ai_proxy.engines.llama_cpp_server import LLAMA_CPP_SERVER
from ai_proxy.engines.profile import Profile
from ai_proxy.engines.registry import (
    PROFILES,
    health_path_of,
    is_ready,
    port_of,
    profile_of,
    start_timeout_of,
)
from ai_proxy.engines.vllm import VLLM


def test_every_engine_type_has_exactly_the_profile_of_its_name() -> None:
    assert set(PROFILES) == set(EngineType)
    assert all(profile.type is name for name, profile in PROFILES.items())


def test_every_profile_in_the_package_is_registered() -> None:
    modules = [
        importlib.import_module(f"ai_proxy.engines.{module.name}") for module in pkgutil.iter_modules(engines.__path__)
    ]
    found = {value.type for module in modules for value in vars(module).values() if isinstance(value, Profile)}
    assert found == set(EngineType)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=[*PROFILES])
def test_a_profile_holds_together(profile: Profile) -> None:
    assert profile.health_path.startswith("/")
    assert 0 < profile.port < 65536
    assert profile.gpu or profile.cpu
    assert [level.level for level in profile.sleep] == list(range(1, len(profile.sleep) + 1))
    for level in profile.sleep:
        assert level.calls
        assert all(call.path.startswith("/") for call in (*level.calls, *level.wake_calls))


def test_a_services_own_keys_beat_its_profile() -> None:
    plain = ServiceConfig.model_validate({"image": "x", "type": "vllm"})
    own = ServiceConfig.model_validate(
        {"image": "x", "type": "vllm", "port": 1, "health": {"path": "/up", "start_timeout_s": 2}}
    )
    assert profile_of(plain) is VLLM
    assert (port_of(plain), health_path_of(plain), start_timeout_of(plain)) == (8000, "/health", 1800)
    assert (port_of(own), health_path_of(own), start_timeout_of(own)) == (1, "/up", 2)


@pytest.mark.parametrize(
    ("service", "status", "ready"),
    [
        ({"type": "llama-cpp-server"}, 200, True),
        ({"type": "llama-cpp-server"}, 503, False),
        ({"type": "llama-cpp-server"}, 404, False),
        ({"type": "generic"}, 404, True),
        ({"type": "generic"}, 503, False),
        ({"type": "generic"}, 0, False),
        ({"type": "generic", "health": {"path": "/"}}, 404, False),
    ],
)
def test_ready_is_2xx_but_any_answer_where_nothing_is_known(
    service: dict[str, object], status: int, ready: bool
) -> None:
    assert is_ready(ServiceConfig.model_validate({"image": "x"} | service), status) is ready


@pytest.mark.parametrize(
    ("profile", "body", "busy"),
    [
        (LLAMA_CPP_SERVER, b'[{"id":0,"is_processing":false},{"id":1,"is_processing":true}]', True),
        (LLAMA_CPP_SERVER, b'[{"id":0,"is_processing":false}]', False),
        (COMFYUI, b'{"queue_running":[],"queue_pending":[]}', False),
        (COMFYUI, b'{"queue_running":[[1,"x",{}]],"queue_pending":[]}', True),
        (COMFYUI, b'{"queue_running":[],"queue_pending":[[2,"y",{}]]}', True),
        (VLLM, b'# HELP x\nvllm:num_requests_running{engine="0"} 0.0\nvllm:num_requests_waiting{} 0\n', False),
        (VLLM, b'vllm:num_requests_running{engine="0"} 0.0\nvllm:num_requests_waiting{engine="1"} 2.0\n', True),
    ],
)  # fmt: skip
def test_busy_probes_read_what_the_engine_says(profile: Profile, body: bytes, busy: bool) -> None:
    assert profile.busy is not None
    assert profile.busy.reads(body) is busy


@pytest.mark.parametrize("profile", [LLAMA_CPP_SERVER, COMFYUI], ids=lambda it: it.type)
def test_a_busy_probe_refuses_what_is_not_the_engines(profile: Profile) -> None:
    assert profile.busy is not None
    with pytest.raises(ValueError, match="Expecting value"):
        profile.busy.reads(b"<html>")
