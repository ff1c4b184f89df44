"""The calls by which engines sleep and wake, and how they tell that they do."""

import json

import pytest

from ai_proxy.engines.comfyui import COMFYUI
from ai_proxy.engines.llama_cpp_server import LLAMA_CPP_SERVER
from ai_proxy.engines.ollama import OLLAMA
from ai_proxy.engines.profile import EachOf, Profile, Question, SleepLevel
from ai_proxy.engines.registry import PROFILES
from ai_proxy.engines.vllm import VLLM

ROUTER = {
    "data": [
        {"id": "a", "status": {"value": "loaded"}},
        {"id": "b", "status": {"value": "unloaded"}},
        {"id": "c", "status": {"value": "loading"}},
        {"id": "d", "status": {"value": "downloading"}},
        {"id": "e"},
    ]
}


def only(profile: Profile) -> SleepLevel:
    (level,) = profile.sleep
    return level


def unloads(profile: Profile, said: object) -> list[tuple[str, object]]:
    """What is called for what an engine says of its models."""
    (each,) = only(profile).calls
    assert isinstance(each, EachOf)
    return [(call.path, json.loads(call.body)) for call in each.calls(json.dumps(said).encode())]


def asleep(profile: Profile) -> Question:
    question = profile.sleep[0].asleep
    assert question is not None
    return question


def test_a_router_unloads_each_model_that_it_has_or_is_about_to_have() -> None:
    assert unloads(LLAMA_CPP_SERVER, ROUTER) == [
        ("/models/unload", {"model": "a"}),
        ("/models/unload", {"model": "c"}),
    ]


def test_ollama_unloads_each_model_that_it_has() -> None:
    loaded = {"models": [{"name": "phi4:14b", "size_vram": 1}, {"name": "gemma3"}]}
    assert unloads(OLLAMA, loaded) == [
        ("/api/generate", {"model": "phi4:14b", "keep_alive": 0}),
        ("/api/generate", {"model": "gemma3", "keep_alive": 0}),
    ]


@pytest.mark.parametrize(
    ("profile", "said", "sleeps"),
    [
        (VLLM, {"is_sleeping": True}, True),
        (VLLM, {"is_sleeping": False}, False),
        (OLLAMA, {"models": []}, True),
        (OLLAMA, {"models": [{"name": "a"}]}, False),
        (LLAMA_CPP_SERVER, ROUTER, False),
        (LLAMA_CPP_SERVER, {"data": ROUTER["data"][1:2]}, True),
    ],
    ids=["vllm-yes", "vllm-no", "ollama-yes", "ollama-no", "router-no", "router-yes"],
)
def test_an_engine_sleeps_when_it_says_so(profile: Profile, said: object, sleeps: bool) -> None:
    assert asleep(profile).reads(json.dumps(said).encode()) is sleeps


@pytest.mark.parametrize("profile", [VLLM, OLLAMA, LLAMA_CPP_SERVER], ids=lambda it: it.type)
@pytest.mark.parametrize("said", [b"<html>", b"[]", b"{}"], ids=["html", "list", "empty"])
def test_another_engines_answer_says_nothing_of_sleep(profile: Profile, said: bytes) -> None:
    with pytest.raises(ValueError, match=r"Expecting value|not a"):
        asleep(profile).reads(said)


def test_what_wakes_by_itself_needs_no_call_and_what_does_not_can_be_asked() -> None:
    levels = [level for profile in PROFILES.values() for level in profile.sleep]
    assert all(level.asleep is not None for level in levels if level.wake_calls)
    assert [only(profile).wake_calls for profile in (COMFYUI, OLLAMA, LLAMA_CPP_SERVER)] == [()] * 3


def test_the_sleep_that_may_wake_to_garbage_is_never_chosen_by_itself() -> None:
    assert [(level.level, level.by_default) for level in VLLM.sleep] == [(1, True), (2, False)]
