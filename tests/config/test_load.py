"""What a good file means."""

from pathlib import Path

import pytest

from ai_proxy.config.load import SMALLEST, load
from ai_proxy.config.models import PullPolicy, RuntimeKind, ServiceConfig
from tests.config.conftest import Load


def service(load_text: Load, text: str, environ: dict[str, str] | None = None) -> ServiceConfig:
    return load_text(text, environ).services["a"]


def test_the_smallest_file_is_a_local_process(load_text: Load) -> None:
    config = load_text(SMALLEST)
    assert config.services["small"].kind is RuntimeKind.PROCESS
    assert config.services["small"].command == ("llama-server", "-m", "small.gguf", "--port", "{port}")


def test_no_services_yet_is_a_valid_file(load_text: Load) -> None:
    assert load_text("services: {}").services == {}


def test_own_keys_beat_the_template_and_the_template_beats_the_defaults(load_text: Load) -> None:
    a = service(
        load_text,
        """
        defaults: {idle_timeout_s: 10, limits: {max_queue: 1, max_wait_s: 1}, environment: {A: d, B: d, C: d}}
        templates:
          base: {image: x, limits: {max_queue: 2}, environment: {B: t, C: t}}
          t: {extends: base, volumes: ["t:/t"], cap_add: [T]}
        services:
          a: {extends: t, environment: [C=s], volumes: ["s:/s"], idle_timeout_s: null}
        """,
    )
    assert (a.limits.max_queue, a.limits.max_wait_s, a.limits.max_in_flight) == (2, 1, None)
    assert a.environment == {"A": "d", "B": "t", "C": "s"}
    assert (a.volumes, a.cap_add, a.idle_timeout_s) == (("s:/s",), ("T",), None)


def test_args_are_appended_to_the_command_and_consumed(load_text: Load) -> None:
    a = service(
        load_text,
        """
        templates: {t: {image: x, command: "-m 'a b' -c {ctx}", args: [--t], vars: {ctx: 10, file: f}}}
        services: {a: {extends: t, args: "--x {file}.gguf", vars: {ctx: 20}}}
        """,
    )
    assert a.command == ("-m", "a b", "-c", "20", "--x", "f.gguf")
    assert (a.args, a.vars, a.extends) == ((), {}, None)


def test_a_var_with_a_space_stays_one_word(load_text: Load) -> None:
    a = service(load_text, "services: {a: {image: x, command: '-m {file} --port {port}', vars: {file: a b.gguf}}}")
    assert a.command == ("-m", "a b.gguf", "--port", "{port}")


def test_json_and_unknown_braces_survive(load_text: Load) -> None:
    a = service(load_text, """services: {a: {image: x, vars: {x: 1}, command: ['{"a":{"x":{x}}}', '{y}', '{ x }']}}""")
    assert a.command == ('{"a":{"x":1}}', "{y}", "{ x }")


def test_arguments_keep_the_text_that_was_written(load_text: Load) -> None:
    a = service(load_text, "services: {a: {image: x, command: [0.10, 010, 1e3, yes, True, 12:30], user: 1000:1000}}")
    assert a.command == ("0.10", "010", "1e3", "yes", "True", "12:30")
    assert a.user == "1000:1000"


def test_environment_variables_are_substituted_before_types_are_read(load_text: Load) -> None:
    a = service(
        load_text,
        "services: {a: {image: '${IMG:-x}', port: '${PORT}', pinned: '${PIN}', environment: {PRICE: $$5}}}",
        {"PORT": "81", "PIN": "true"},
    )
    assert (a.image, a.port, a.pinned, a.environment) == ("x", 81, True, {"PRICE": "$5"})


def test_env_files_lie_under_the_environment(load_text: Load, tmp_path: Path) -> None:
    (tmp_path / "a.env").write_text("# secrets\nexport A=1\nB='2 3'\n\n")
    (tmp_path / "b.env").write_text("B=b\nC=c")
    a = service(load_text, "services: {a: {image: x, env_file: [a.env, b.env], environment: {C: own}}}")
    assert a.environment == {"A": "1", "B": "b", "C": "own"}
    assert a.env_file == ()


@pytest.mark.parametrize("form", ["{SET: , UNSET: , OWN: 1}", "[SET, UNSET, OWN=1]"])
def test_a_variable_without_a_value_is_passed_on_if_set(load_text: Load, form: str) -> None:
    a = service(load_text, f"services: {{a: {{image: x, environment: {form}}}}}", {"SET": "s"})
    assert a.environment == {"SET": "s", "OWN": "1"}


def test_anchors_and_merge_keys_and_x_keys_work(load_text: Load) -> None:
    a = service(
        load_text,
        """
        x-one: &one {shm_size: 1g, ipc: host, working_dir: "${NEVER_READ:-/w}"}
        x-two: &two {ipc: private, user: u}
        x-unused: ${NOT_SET}
        services: {a: {<<: [*one, *two], image: x, shm_size: 2g}}
        """,
    )
    assert (a.shm_size, a.ipc, a.user, a.working_dir) == (2 << 30, "host", "u", "/w")


def test_relative_host_paths_start_at_the_file(load_text: Load, tmp_path: Path) -> None:
    a = service(load_text, "services: {a: {image: x, volumes: ['./models:/models:ro', '../up:/up', 'cache:/c']}}")
    assert a.volumes == (f"{tmp_path}/models:/models:ro", f"{tmp_path.parent}/up:/up", "cache:/c")


def test_an_empty_key_means_its_default(load_text: Load) -> None:
    a = service(load_text, "services:\n  a:\n    image: x\n    environment:\n    resources:\n    pull_policy:\n")
    assert (a.environment, a.resources.gpus, a.pull_policy) == ({}, None, PullPolicy.MISSING)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("one", {"one": None}),
        ("[a, 'b-*']", {"a": None, "b-*": None}),
        ("{a: b}", {"a": "b"}),
        ("[]", {}),
        ("null", None),
    ],
)
def test_models_may_be_a_name_a_list_or_a_map(load_text: Load, written: str, expected: object) -> None:
    assert service(load_text, f"services: {{a: {{image: x, models: {written}}}}}").models == expected


@pytest.mark.parametrize(("written", "expected"), [("2", 2), ("0", 0), ("[0, GPU-1]", ("0", "GPU-1")), ("null", None)])
def test_gpus_may_be_a_count_or_a_list(load_text: Load, written: str, expected: object) -> None:
    assert (
        service(load_text, f"services: {{a: {{image: x, resources: {{gpus: {written}}}}}}}").resources.gpus == expected
    )


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "ai-proxy.yaml"
    path.write_bytes(b"\xef\xbb\xbfservices: {}")
    assert load(path, {}).services == {}


@pytest.mark.slow
def test_a_thousand_services_load(load_text: Load) -> None:
    lines = "".join(f"  s{index}: {{extends: t, vars: {{file: f{index}}}}}\n" for index in range(1000))
    config = load_text(f"templates: {{t: {{image: x, command: '-m {{file}}'}}}}\nservices:\n{lines}")
    assert config.services["s999"].command == ("-m", "f999")
