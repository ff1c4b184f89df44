"""Services that are made of the files that are there."""

from pathlib import Path

import pytest

from ai_proxy.config.load import inspect
from ai_proxy.config.models import EngineType
from tests.config.conftest import Faults, Load

RULES = """
templates:
  gguf: {type: llama-cpp-server, command: "llama-server -m {path} -c {ctx} --port {port}", vars: {ctx: 8192}}
  vision: {extends: gguf, args: [--mmproj, "{mmproj}"]}
discover:
  - {glob: models/*.gguf, extends: gguf, extends_with_mmproj: vision}
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def test_each_file_is_a_service_of_its_template(load_text: Load, models: Path) -> None:
    (models / "Qwen2.5 7B-Q4_K_M.gguf").touch()
    config = load_text(RULES)
    service = config.services["qwen2.5-7b-q4_k_m"]
    assert service.type is EngineType.LLAMA_CPP_SERVER
    path = f"{models}/Qwen2.5 7B-Q4_K_M.gguf"
    assert service.command == ("llama-server", "-m", path, "-c", "8192", "--port", "{port}")


def test_a_model_with_a_projector_takes_the_other_template(load_text: Load, models: Path) -> None:
    for name in ("gemma-Q4_0.gguf", "mmproj-gemma-f16.gguf", "qwen.gguf"):
        (models / name).touch()
    services = load_text(RULES).services
    assert services.keys() == {"gemma-q4_0", "qwen"}
    assert (services["gemma-q4_0"].command or ())[-2:] == ("--mmproj", "mmproj-gemma-f16.gguf")
    assert "--mmproj" not in (services["qwen"].command or ())


def test_the_file_is_named_as_a_container_sees_it(load_text: Load, models: Path) -> None:
    (models / "sub").mkdir()
    (models / "sub" / "x.gguf").touch()
    config = load_text(
        """
        templates: {gguf: {image: x, command: "-m /models/{file}", volumes: ["./models:/models:ro"]}}
        discover: [{glob: "models/**/*.gguf", extends: gguf}]
        """
    )
    assert config.services["x"].command == ("-m", "/models/sub/x.gguf")


def test_a_service_written_by_hand_wins_over_its_namesake(load_text: Load, models: Path, tmp_path: Path) -> None:
    (models / "chat.gguf").touch()
    (models / "gpt.gguf").touch()
    text = RULES + "services: {chat: {command: mine, models: [chat, gpt]}}"
    assert load_text(text).services.keys() == {"chat"}
    notes = inspect(tmp_path / "ai-proxy.yaml", {}).notes
    assert [note.split(": ")[1] for note in notes] == [
        "a service or model called chat is written by hand",
        "a service or model called gpt is written by hand",
    ]


def test_the_first_rule_that_finds_a_file_has_it(load_text: Load, models: Path) -> None:
    (models / "a.gguf").touch()
    config = load_text(
        """
        templates: {one: {command: one}, two: {command: two}}
        discover: [{glob: models/a*, extends: one}, {glob: models/*, extends: two}]
        """
    )
    assert {id_: service.command for id_, service in config.services.items()} == {"a": ("one",)}


def test_that_nothing_is_found_is_worth_a_note_and_no_fault(load_text: Load, tmp_path: Path) -> None:
    assert load_text(RULES).services == {}
    assert inspect(tmp_path / "ai-proxy.yaml", {}).notes == ("line 6: models/*.gguf matches no model file",)


def test_a_key_for_a_model_whose_file_is_gone_is_no_fault(load_text: Load) -> None:
    config = load_text(f"{RULES}keys: [{{name: a, hash: {'0' * 64}, models: [gone]}}]")
    assert config.keys[0].models == ("gone",)


EXPECTING = """
services:
  a: {command: x, conflicts: gone, requires: [b, gone]}
  b: {command: x}
default_service: gone
"""


def test_services_whose_files_are_gone_are_missed_in_notes_and_no_fault(load_text: Load, tmp_path: Path) -> None:
    config = load_text(RULES + EXPECTING.replace("conflicts: gone", "conflicts: away"))
    assert (config.services["a"].requires, config.default_service) == (("b", "gone"), "gone")
    assert inspect(tmp_path / "ai-proxy.yaml", {}).notes[1:] == (
        "default_service: there is no gone now; what nothing else takes is a 404",
        "a requires gone, not there now: until then it does not start",
        "a conflicts with away, not there now",
    )


def test_what_no_file_can_make_is_a_fault_as_ever(faults_of: Faults) -> None:
    for text in (f"discover: []{EXPECTING}", RULES + EXPECTING.replace("gone", "Gone/1")):
        found = [line.split(": ")[1] for line in faults_of(text) if "no such service" in line]
        assert sorted(found) == ["default_service", "services.a.conflicts", "services.a.requires.1"]


def test_a_pattern_may_come_from_the_environment(load_text: Load, models: Path) -> None:
    (models / "a.gguf").touch()
    text = "templates: {t: {command: x}}\ndiscover: [{glob: '${MODELS}/*.gguf', extends: t}]"
    assert load_text(text, {"MODELS": str(models)}).services.keys() == {"a"}


def test_an_unknown_template_is_one_fault_however_many_files_there_are(faults_of: Faults, models: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (models / name).touch()
    text = "templates: {gguf: {command: x}}\ndiscover: [{glob: models/*.gguf, extends: guf}]"
    assert faults_of(text) == ["ai-proxy.yaml:2: discover.0.extends: unknown template: 'guf'; fix: write gguf"]


def test_a_template_that_needs_a_projector_is_for_models_that_have_one(faults_of: Faults) -> None:
    (fault,) = faults_of("templates: {v: {command: 'x {mmproj}'}}\ndiscover: [{glob: '*.gguf', extends: v}]")
    assert fault.startswith("ai-proxy.yaml:2: discover.0.extends: its template needs {mmproj}")
    assert fault.endswith("fix: name that template under extends_with_mmproj")


def test_rules_of_the_wrong_type_are_faults_like_any_other(faults_of: Faults) -> None:
    assert [line.split("; fix: ")[0] for line in faults_of("discover: [{glob: x}, {extends: {a: b}}, y]")] == [
        "ai-proxy.yaml:1: discover.0.extends: this key is required",
        "ai-proxy.yaml:1: discover.1.extends: not text: a mapping",
        "ai-proxy.yaml:1: discover.1.glob: this key is required",
        "ai-proxy.yaml:1: discover.2: not a mapping (key: value): 'y'",
    ]
