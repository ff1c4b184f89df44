"""The example file is valid and shows every key; so do the generated pages."""

import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import yaml

from ai_proxy.config.load import load
from ai_proxy.config.models import RuntimeKind
from ai_proxy.config.reference import ConfigFile, json_schema, page
from ai_proxy.config.section import Section
from ai_proxy.config.words import is_map, section_of
from tests.fakes.certificates import Authority

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLE = DOCS / "ai-proxy.example.yaml"
HASHES = {f"{name}_KEY_HASH": sha256(name.encode()).hexdigest() for name in ("BACKEND", "NIGHTLY", "OPS")}


def known_keys(section: type[Section], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield prefix + name
        inner = section_of(field)
        if inner is not None and name not in {"defaults", "templates"}:
            yield from known_keys(inner, f"{prefix}{name}.")


def used_keys(section: type[Section], value: object, prefix: str = "") -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from used_keys(section, item, prefix)
    if not isinstance(value, dict):
        return
    for name, child in value.items():
        field = section.model_fields.get(name)
        if field is None:
            continue
        yield prefix + name
        if (inner := section_of(field)) is not None:
            for item in child.values() if is_map(field) else [child]:
                yield from used_keys(inner, item, f"{prefix}{name}.")


def issue_certificates(folder: Path) -> None:
    folder.mkdir()
    authority = Authority(folder)
    for name, cert, key in (("server", "fullchain.pem", "privkey.pem"), ("proxy", "proxy.pem", "proxy.key")):
        pair = authority.issue(name=name)
        pair.cert.rename(folder / cert)
        pair.key.rename(folder / key)
    for name in ("clients", "internal-ca"):
        shutil.copy(authority.file, folder / f"{name}.pem")


def test_the_example_is_valid(tmp_path: Path) -> None:
    shutil.copy(EXAMPLE, tmp_path)
    issue_certificates(tmp_path / "tls")
    (tmp_path / "hf.env").write_text("HF_TOKEN=abc\n")
    config = load(tmp_path / EXAMPLE.name, {"UPSTREAM_KEY": "key"} | HASHES)
    assert {service.kind for service in config.services.values()} == set(RuntimeKind)
    assert config.services["chat"].environment == {"HF_TOKEN": "abc", "VLLM_LOGGING_LEVEL": "INFO"}
    assert config.services["qwen3-8b"].command[-2:] == ("--chat-template-kwargs", '{"enable_thinking":false}')  # type: ignore[index]  # a command is there
    assert config.services["small"].idle_timeout_s is None


def test_the_example_shows_every_key() -> None:
    value = yaml.safe_load(EXAMPLE.read_text("utf-8"))
    assert set(known_keys(ConfigFile)) - set(used_keys(ConfigFile, value)) == set()


def test_renewing_the_reference_page_keeps_what_stands_around_the_tables() -> None:
    text = "before\n<!-- generated from the Fields: begin -->\nold\n<!-- generated from the Fields: end -->\nafter\n"
    renewed = page(text)
    assert renewed.startswith("before\n")
    assert renewed.endswith("\nafter\n")
    assert "| `server.port` | whole number | `8000` |" in renewed
    assert page(renewed) == renewed


def test_every_key_has_a_description_and_every_value_an_example() -> None:
    def check(section: type[Section]) -> Iterator[str]:
        for name, field in section.model_fields.items():
            inner = section_of(field)
            if not field.description or (inner is None and not field.examples):
                yield f"{section.__name__}.{name}"
            if inner is not None:
                yield from check(inner)

    assert list(check(ConfigFile)) == []


def test_the_schema_knows_layers_and_refuses_unknown_keys() -> None:
    schema = json_schema()
    assert {"defaults", "templates", "services"} <= schema["properties"].keys()
    assert schema["anyOf"] == [{"required": ["services"]}, {"required": ["discover"]}]
    assert schema["additionalProperties"] is False
