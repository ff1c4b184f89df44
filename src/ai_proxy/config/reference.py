"""The config's reference, generated from the Fields: the JSON schema and the tables of `docs/configuration.md`.

Pure: text in, text out. `python -m tests.check --fix` writes both; never edit the generated parts, edit the Fields.
"""

import json
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import Field
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import CoreSchema, PydanticUndefined

from ai_proxy.config.models import Config, ServiceConfig
from ai_proxy.config.section import Section
from ai_proxy.config.words import is_map, section_of

PAGE = "configuration.md"
SCHEMA = "ai-proxy.schema.json"

_BEGIN = "<!-- generated from the Fields: begin -->"
_END = "<!-- generated from the Fields: end -->"
_VARIABLE = {"type": "string", "pattern": "\\$\\{"}


class ConfigFile(Config):
    """What a config file may hold: a config, and the layers that services take in."""

    defaults: ServiceConfig = Field(
        ServiceConfig.model_construct(),
        description="Service keys that hold for every service unless its template or itself says otherwise.",
        examples=[{"idle_timeout_s": 1800}],
    )
    templates: dict[str, ServiceConfig] = Field(
        default_factory=dict,
        description="Service keys by name, for services (and templates) that say `extends: name`.",
        examples=[{"gguf": {"image": "ghcr.io/ggml-org/llama.cpp:server-cuda"}}],
    )


class _FileSchema(GenerateJsonSchema):
    """Every number, truth value and choice may also be a `${NAME}`, which is text until it is substituted."""

    def generate_inner(self, schema: CoreSchema) -> JsonSchemaValue:
        inner = super().generate_inner(schema)
        if inner.get("type") in {"integer", "number", "boolean"} or "enum" in inner:
            described: JsonSchemaValue = {key: inner.pop(key) for key in ("title", "description") if key in inner}
            return described | {"anyOf": [inner, _VARIABLE]}
        return inner


def json_schema() -> dict[str, Any]:
    """The JSON schema of a config file, for editors and CI."""
    schema = ConfigFile.model_json_schema(schema_generator=_FileSchema)
    schema |= {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ai-proxy configuration",
        "description": "One file: the proxy, its services, and the layers they are made of.",
        "patternProperties": {"^x-": {}},
    }
    schema["anyOf"] = [{"required": [key]} for key in ("services", "discover")]
    del schema["required"]
    # Both are filled in field by field, never given as a whole.
    del schema["properties"]["defaults"]["default"]
    return schema


def tables() -> str:
    """Every key with its form, default, meaning and example, as Markdown, one table a section."""
    return "\n".join(_tables())


def _tables() -> Iterator[str]:
    yield from _table("Top level", "", ConfigFile)
    for name, field in ConfigFile.model_fields.items():
        section = section_of(field)
        if section is not None and section is not ServiceConfig:
            yield from _table(f"`{name}`", f"{name}.", section)
            yield from _inner_tables(name, section)
    yield from _table("`services.<id>`", "", ServiceConfig)
    for name, field in ServiceConfig.model_fields.items():
        section = section_of(field)
        if section is not None:
            prefix = f"{name}.<name>." if is_map(field) else f"{name}."
            yield from _table(f"`services.<id>.{prefix.removesuffix('.')}`", prefix, section)


def _inner_tables(place: str, section: type[Section]) -> Iterator[str]:
    for name, field in section.model_fields.items():
        inner = section_of(field)
        if inner is not None:
            yield from _table(f"`{place}.{name}`", f"{place}.{name}.", inner)


def _table(title: str, prefix: str, section: type[Section]) -> Iterator[str]:
    yield from (f"### {title}", "", (section.__doc__ or "").splitlines()[0], "")
    yield from ("| key | value | default | meaning | example |", "| --- | --- | --- | --- | --- |")
    properties = section.model_json_schema()["properties"]
    for name, field in section.model_fields.items():
        cells = (
            f"`{prefix}{name}`",
            _form(properties[name], field),
            _default(field),
            field.description,
            _example(field),
        )
        yield "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
    yield ""


def _form(schema: dict[str, Any], field: FieldInfo) -> str:
    """The forms of a value in words."""
    if (section := section_of(field)) is not None and section is not ServiceConfig and not is_map(field):
        listed = "a list, see below" if "items" in json.dumps(schema) else "see below"
        return f"`auto` or {listed}" if "const" in json.dumps(schema) else listed
    forms = [_one_form(option) for option in schema.get("anyOf") or schema.get("oneOf") or [schema]]
    return " or ".join(dict.fromkeys(form for form in forms if form != "null"))


def _one_form(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "$ref" in schema:
        return _choice_or_map(str(schema["$ref"]).rsplit("/", 1)[-1])
    if "anyOf" in schema:
        return " or ".join(_one_form(option) for option in schema["anyOf"])
    names = {"string": "text", "integer": "whole number", "boolean": "true or false", "array": "list", "object": "map"}
    return names.get(schema["type"], str(schema["type"]))


def _choice_or_map(definition: str) -> str:
    known = ConfigFile.model_json_schema()["$defs"][definition]
    return _one_form(known) if "enum" in known else "map"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is None or default is PydanticUndefined:
        return "–"
    if isinstance(default, Section) or default in ({}, (), ""):
        return ""
    return f"`{_yaml(default)}`"


def _example(field: FieldInfo) -> str:
    return ", ".join(f"`{_yaml(example)}`" for example in field.examples or ())


def _yaml(value: object) -> str:
    if isinstance(value, str):
        return value
    plain = json.loads(json.dumps(value))
    dumped = yaml.safe_dump(plain, default_flow_style=True, width=10_000, sort_keys=False, allow_unicode=True)
    return dumped.removesuffix("\n").removesuffix("\n...")


def page(text: str) -> str:
    """The reference page with its generated part renewed.

    Args:
        text: The page as it is; what stands outside the two markers is kept.
    """
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n\n{tables()}\n{_END}{after}"
