"""What services say of each other, and of the capacities they share."""

from pathlib import Path

import pytest

from ai_proxy.config.faults import ConfigError
from ai_proxy.config.load import load
from ai_proxy.config.models import Config


def read(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "ai-proxy.yaml"
    path.write_text(text)
    return load(path, {})


def faults(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    return [f"{fault.key}: {fault.message}; {fault.fix}" for fault in caught.value.faults]


def test_a_service_takes_of_a_capacity_that_the_config_declares(tmp_path: Path) -> None:
    config = read(tmp_path, "capacities: {tokens: 4}\nservices: {a: {image: x, resources: {tokens: 1}}}")
    assert config.services["a"].resources.custom == {"tokens": 1}


def test_an_undeclared_capacity_is_an_unknown_key_with_both_ways_out(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, "services: {a: {image: x, resources: {tokens: 1}}}")
    assert "services.a.resources.tokens: unknown key" in fault
    assert "capacities: {tokens: …}" in fault


def test_more_than_there_is_can_never_be_had(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, "capacities: {tokens: 4}\nservices: {a: {image: x, resources: {tokens: 5}}}")
    assert "capacities has only 4 of tokens" in fault


@pytest.mark.parametrize("key", ["conflicts", "requires"])
def test_a_service_that_does_not_exist_is_a_fault_with_the_nearest_name(tmp_path: Path, key: str) -> None:
    (fault,) = faults(tmp_path, f"services: {{chat: {{image: x, {key}: [embde]}}, embed: {{image: x}}}}")
    assert fault == f"services.chat.{key}.0: no such service: 'embde'; write embed"


def test_services_that_require_each_other_in_a_ring_could_never_start(tmp_path: Path) -> None:
    text = "services: {a: {image: x, requires: b}, b: {image: x, requires: c}, c: {image: x, requires: a}}"
    assert all("neither could start" in fault for fault in faults(tmp_path, text))


def test_a_service_can_not_require_what_it_conflicts_with(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, "services: {a: {image: x, requires: b, conflicts: b}, b: {image: x}}")
    assert "among its conflicts too" in fault


def test_a_service_can_not_require_what_conflicts_with_it(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, "services: {a: {image: x, requires: b}, b: {image: x, conflicts: a}}")
    assert "b says that it conflicts with a" in fault


def test_fewer_replicas_at_most_than_at_least_is_a_fault(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, "services: {a: {image: x, replicas: {min: 3}}}")
    assert "min is 3, max is 1; write max: 3" in fault


@pytest.mark.parametrize(("said", "read_as"), [("auto", "auto"), ("off", "off"), ("[2, 1]", (1, 2)), ("1", (1,))])
def test_sleep_is_auto_off_or_levels(tmp_path: Path, said: str, read_as: object) -> None:
    assert read(tmp_path, f"services: {{a: {{image: x, sleep: {said}}}}}").services["a"].sleep == read_as


def test_a_level_of_sleep_that_does_not_exist_is_a_fault(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, "services: {a: {image: x, sleep: 3}}")
    assert "write auto, off, or levels" in fault
