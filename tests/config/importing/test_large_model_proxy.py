"""large-model-proxy's files mean here what they mean there, or it is said that they don't."""

import json
from typing import Any

import pytest

from ai_proxy.config.faults import ConfigError
from ai_proxy.config.importing.jsonc import parse
from ai_proxy.config.models import EngineType, RuntimeKind
from tests.config.importing.conftest import SAMPLES, Import, Imported

SAMPLE = (SAMPLES / "large-model-proxy.jsonc").read_text("utf-8")


def one(imported: Import, available: dict[str, Any] | None = None, **keys: Any) -> Imported:
    service = {"Name": "s", "Command": "serve", "Args": "", "ProxyTargetPort": "1234", "OpenAiApi": True, **keys}
    return imported(json.dumps({"ResourcesAvailable": available or {}, "Services": [service]}))


def test_a_whole_file_is_fine_here(imported: Import) -> None:
    config = imported(SAMPLE).config
    assert config.server.port == 7070
    assert (config.memory_mb, config.capacities) == (64000, {"Licences": 2})
    assert {name: (it.kind, it.type, it.port) for name, it in config.services.items()} == {
        "automatic1111": (RuntimeKind.PROCESS, EngineType.GENERIC, 17860),
        "gemma-27b": (RuntimeKind.PROCESS, EngineType.LLAMA_CPP_SERVER, 18081),
        "qwen-qwen2.5-72b-instruct-awq": (RuntimeKind.PROCESS, EngineType.VLLM, 18082),
        "comfyui": (RuntimeKind.DOCKER, EngineType.COMFYUI, 8188),
        "whisper-on-the-cpu": (RuntimeKind.PROCESS, EngineType.GENERIC, 18090),
    }


def test_what_was_not_carried_over_is_listed_with_its_place(imported: Import) -> None:
    assert [line.partition(": ")[0] for line in imported(SAMPLE).left] == [
        "DefaultServiceUrl",
        "ManagementApi",
        "Services[0].ListenPort",
        "Services[1].ListenPort",
        "Services[1].ServiceUrl",
        "Services[2].LogFilePath",
        "Services[3].ListenPort",
        "Services[4].ListenPort",
        "Services[4].HealthcheckCommand",
    ]


def test_its_resources_are_vram_memory_and_capacities(imported: Import) -> None:
    services = imported(SAMPLE).config.services
    first, two = services["automatic1111"].resources, services["qwen-qwen2.5-72b-instruct-awq"].resources
    assert (first.gpus, first.vram_required_mb, first.min_memory_mb) == (("0",), 2000, 30000)
    assert first.custom == {"Licences": 1}
    assert (two.gpus, two.vram_required_mb) == (("0", "1"), 22000)
    assert services["whisper-on-the-cpu"].resources.gpus == 0


def test_one_vram_is_that_of_any_gpu(imported: Import) -> None:
    needs = one(imported, {"VRAM": 24000}, ResourceRequirements={"VRAM": 9000}).service.resources
    assert (needs.gpus, needs.vram_required_mb) == (None, 9000)


def test_the_check_tells_which_gpu_is_meant(imported: Import) -> None:
    check = {"CheckCommand": "nvidia-smi --query-gpu=memory.free -i 3", "Amount": 24000}
    result = one(imported, {"VRAM-A": check, "VRAM-B": 24000}, ResourceRequirements={"VRAM-A": 9000})
    assert result.service.resources.gpus == ("3",)


def test_a_memory_in_another_unit_is_a_capacity(imported: Import) -> None:
    result = one(imported, {"VRAM": 24}, ResourceRequirements={"VRAM": 20})
    assert result.config.capacities == {"VRAM": 24}
    assert result.service.resources.custom == {"VRAM": 20}


def test_what_only_a_command_knows_is_told(imported: Import) -> None:
    result = one(imported, {"Tokens": {"CheckCommand": "count"}}, ResourceRequirements={"Tokens": 1})
    assert [line.partition(": ")[0] for line in result.left] == [
        "ResourcesAvailable.Tokens.CheckCommand",
        "Services[0].ResourceRequirements.Tokens",
    ]


@pytest.mark.parametrize(
    ("keys", "models"),
    [
        ({"Name": "chat"}, None),
        ({"Name": "Org/Chat"}, {"Org/Chat": None}),
        ({"OpenAiApiModels": ["a", "b"]}, {"a": None, "b": None}),
        ({"OpenAiApi": False}, {}),
    ],
)
def test_only_what_spoke_the_openai_api_has_models(
    keys: dict[str, Any], models: dict[str, None] | None, imported: Import
) -> None:
    assert one(imported, **keys).service.models == models


@pytest.mark.parametrize(
    ("keys", "top", "idle_s"),
    [
        ({}, {}, 120),
        ({}, {"ShutDownAfterInactivitySeconds": 60}, 60),
        ({"ShutDownAfterInactivitySeconds": 5}, {"ShutDownAfterInactivitySeconds": 60}, 5),
    ],
)
def test_idle_services_stop_as_soon_as_before(
    keys: dict[str, Any], top: dict[str, Any], idle_s: float, imported: Import
) -> None:
    service = {"Name": "s", "Command": "serve", "ProxyTargetPort": "1", "OpenAiApi": True, **keys}
    assert imported(json.dumps({**top, "Services": [service]})).service.idle_timeout_s == idle_s


@pytest.mark.parametrize(
    ("command", "path"),
    [
        ("curl --fail http://localhost:1234/up", "/up"),
        ("curl -f http://localhost:1234", "/"),
        ("bash -c 'wget -q -O- http://localhost:1234/health'", "/health"),
    ],
)
def test_health_is_asked_for_where_its_command_did(command: str, path: str, imported: Import) -> None:
    result = one(imported, HealthcheckCommand=command)
    assert (result.service.health.path, result.left) == (path, [])


def test_how_it_was_stopped_is_told(imported: Import) -> None:
    killed = one(imported, KillCommand="pkill serve", ConsiderStoppedOnProcessExit=False)
    assert [line.partition(": ")[0] for line in killed.left] == [
        "Services[0].KillCommand",
        "Services[0].ConsiderStoppedOnProcessExit",
    ]


def test_keys_are_known_in_any_case_and_others_told(imported: Import) -> None:
    result = one(imported, workDir="/opt", ContextSize=4096, Whatever=1)
    assert result.service.working_dir == "/opt"
    assert [line.partition(": ")[0] for line in result.left] == ["Services[0].ContextSize", "Services[0].Whatever"]


def test_comments_and_trailing_commas_are_no_part_of_it() -> None:
    text = """{ // one
      "a": "no // comment, no /* one */,]", /* two
      lines */ "b": [1, 2, /* last */ ], // end
    }"""
    assert parse(text) == {"a": "no // comment, no /* one */,]", "b": [1, 2]}


def test_a_fault_names_its_line(imported: Import) -> None:
    with pytest.raises(ConfigError, match=r"their\.file:3: not JSON"):
        imported('{ // a\n "Services": [],\n "b": ]}')
