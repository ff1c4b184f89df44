"""What is written reads well, and means to our reader what was drafted."""

from pathlib import Path

import pytest

from ai_proxy.config.importing.draft import Draft, ServiceDraft
from ai_proxy.config.importing.write import render, variables
from ai_proxy.config.load import load


def written(**keys: object) -> str:
    return render(Draft("tool", services={"s": ServiceDraft("x", keys)}), "f")


def test_a_command_is_one_flag_a_line() -> None:
    assert written(command=["serve", "--port", "{port}", "-m", "a b.gguf", "--on"]) == (
        "# Made from f (tool) by `ai-proxy import`.\n"
        "\n"
        "services:\n"
        "  s:\n"
        "    command: >-\n"
        "      serve\n"
        "      --port {port}\n"
        "      -m 'a b.gguf'\n"
        "      --on\n"
    )


@pytest.mark.parametrize(
    "words",
    [
        ["x", "two\nlines", "tab\there"],
        ["x", '{"a": "it\'s {b}"}'],
        ["x", "", " ", "#", "# no comment", "-", "--", "- a: b", "null", "~", "$HOME", "$$", "${NO}", "\\"],
        ["{port}"],
        ["モデル.gguf", "!tag", "*a", "&b", "%c", "@d", ">-", "|"],
    ],
    ids=["lines", "json", "odd", "placeholder", "signs"],
)
def test_every_word_survives(words: list[str], tmp_path: Path) -> None:
    path = tmp_path / "ai-proxy.yaml"
    path.write_text(written(command=words), "utf-8")
    assert load(path, {}).services["s"].command == tuple(words)


def test_texts_that_look_like_something_else_stay_texts(tmp_path: Path) -> None:
    environment = {"A": "1", "B": "true", "C": "null", "D": "a: b # c", "E": "${no}", "F": "", "G": "{x}"}
    path = tmp_path / "ai-proxy.yaml"
    path.write_text(written(command=["x"], environment=environment), "utf-8")
    assert load(path, {}).services["s"].environment == environment


def test_variables_are_those_that_are_referred_to() -> None:
    assert variables("a: ${HOME}/x ${TOKEN} ${HOME} $${NO}") == ["HOME", "TOKEN"]
