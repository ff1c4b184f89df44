"""What restarts, what changes live, what comes and goes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.config.diff import Change, diff, spec_hash
from ai_proxy.config.models import Config, ContainerKeys, ServiceConfig

SERVICES = st.fixed_dictionaries(
    {"image": st.sampled_from(["x", "y"])},
    optional={
        "command": st.lists(st.sampled_from(["-a", "{vram_fraction}"]), max_size=2),
        "environment": st.dictionaries(st.sampled_from("AB"), st.sampled_from("12")),
        "idle_timeout_s": st.none() | st.integers(1, 2),
        "pinned": st.booleans(),
        "resources": st.fixed_dictionaries(
            {}, optional={"gpus": st.integers(0, 1), "vram_required_mb": st.integers(1, 2)}
        ),
    },
)
CONFIGS = st.dictionaries(st.sampled_from("abc"), SERVICES).map(lambda services: {"services": services})


def config(**services: object) -> Config:
    return Config.model_validate({"services": services})


@pytest.mark.slow
@given(CONFIGS, CONFIGS)
def test_every_service_is_in_exactly_one_class_and_only_if_it_differs(old: object, new: object) -> None:
    before, after = Config.model_validate(old), Config.model_validate(new)
    change = diff(before, after)
    named = [*change.added, *change.removed, *change.restarts, *change.live]
    assert len(named) == len(set(named))
    differing = {
        service
        for service in before.services.keys() | after.services.keys()
        if before.services.get(service) != after.services.get(service)
    }
    assert set(named) == differing
    assert bool(change) == (before != after)


@pytest.mark.slow
@given(CONFIGS, CONFIGS)
def test_the_way_back_swaps_what_comes_and_goes(old: object, new: object) -> None:
    before, after = Config.model_validate(old), Config.model_validate(new)
    forth, back = diff(before, after), diff(after, before)
    assert (forth.added, forth.removed) == (back.removed, back.added)
    assert (forth.restarts, forth.live) == (back.restarts, back.live)


@given(CONFIGS)
def test_a_config_does_not_differ_from_itself(old: object) -> None:
    assert diff(Config.model_validate(old), Config.model_validate(old)) == Change()


SHAPING = {
    "tls": {"verify": False},
    "image": "y",
    "command": ["-b"],
    "entrypoint": ["/bin/sh"],
    "environment": {"A": "2"},
    "volumes": ["v:/v"],
    "ipc": "host",
    "shm_size": "1g",
    "user": "1",
    "working_dir": "/w",
    "extra_hosts": ["a:1.1.1.1"],
    "ulimits": {"memlock": -1},
    "cap_add": ["SYS_NICE"],
    "security_opt": ["x"],
    "labels": {"a": "b"},
    "mem_limit": "1g",
    "cpus": 2,
    "networks": ["n"],
    "port": 1,
    "type": "vllm",
    "resources": {"gpus": 2},
}
LIVE = {
    "pull_policy": "always",
    "stop_grace_period": "1s",
    "models": ["m"],
    "unlisted": True,
    "headers": {"a": "b"},
    "health": {"path": "/x", "start_timeout_s": 1},
    "timeouts": {"connect_s": 1},
    "limits": {"max_queue": 1},
    "idle_timeout_s": 1,
    "preload": True,
    "pinned": True,
    "resources": {"min_memory_mb": 1, "vram_required_mb": 1},
    "priority": "high",
    "weight": 2,
    "conflicts": ["b"],
    "requires": ["b"],
    "replicas": {"max": 2},
    "sleep": "off",
    "on_disconnect": "drain",
    "half_close": "keep",
    "forward_key": True,
    "listen": "127.0.0.1:8188",
}


@pytest.mark.parametrize("key", SHAPING)
def test_what_shapes_the_replica_restarts_it(key: str) -> None:
    base = {"image": "x", "command": ["-a"], "environment": {"A": "1"}}
    assert diff(config(a=base), config(a=base | {key: SHAPING[key]})).restarts == ("a",)


@pytest.mark.parametrize("key", LIVE)
def test_everything_else_changes_live(key: str) -> None:
    change = diff(config(a={"image": "x"}), config(a={"image": "x", key: LIVE[key]}))
    assert (change.restarts, change.live) == ((), ("a",))


def test_every_key_of_a_container_is_decided() -> None:
    decided = SHAPING.keys() | LIVE.keys()
    assert ContainerKeys.model_fields.keys() - decided == {"env_file"}
    assert ServiceConfig.model_fields.keys() - decided == {"env_file", "args", "vars", "extends", "runtime", "url"}


def test_reserved_vram_counts_where_the_replica_is_told_of_it() -> None:
    told = {"image": "x", "command": ["--gpu-memory-utilization", "{vram_fraction}"]}
    more = {"resources": {"vram_required_mb": 2}}
    assert diff(config(a=told), config(a=told | more)).restarts == ("a",)


def test_an_external_service_moves_when_its_url_does() -> None:
    assert diff(config(a={"url": "http://a"}), config(a={"url": "http://b"})).restarts == ("a",)


def test_the_hash_is_the_same_in_every_release_and_process() -> None:
    service = ServiceConfig.model_validate({"image": "x", "environment": {"B": "1", "A": "2"}, "type": "vllm"})
    same = ServiceConfig.model_validate({"type": "vllm", "environment": {"A": "2", "B": "1"}, "image": "x"})
    assert spec_hash(service) == spec_hash(same) == "28e50ad5f19c44d6"


def test_changed_settings_are_named_and_some_wait_for_the_next_start() -> None:
    old = Config.model_validate({"services": {}})
    new = Config.model_validate({"services": {}, "server": {"port": 1, "on_exit": "keep"}, "name": "n"})
    change = diff(old, new)
    assert change.settings == ("name", "server.on_exit", "server.port")
    assert change.deferred == ("name", "server.port")
