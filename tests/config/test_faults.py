"""Every fault of a bad file: its line, its key, what is wrong, and the fix."""

# ruff: noqa: E501  # a table of cases reads best with one case a line

from pathlib import Path

import pytest

from ai_proxy.config.faults import ConfigError
from ai_proxy.config.load import load
from tests.config.conftest import Faults

ONE_LINERS = {
    "unknown key, near": ("{image: x, comand: y}", "services.a.comand: unknown key; fix: write command"),
    "unknown key, Compose's": ("{image: x, healthcheck: {}}", "unknown key; fix: write health:"),
    "unknown key, llama-swap's": ("{cmd: y, image: x}", "services.a.cmd: unknown key; fix: write command"),
    "unknown key, Kubernetes'": ("{image: x, readinessProbe: {}}", "unknown key; fix: write health:"),
    "unknown key, another place": ("{image: x, gpus: 2}", "services.a.gpus: unknown key; fix: move it to resources.gpus"),
    "unknown key, nested": ("{image: x, resources: {vram_mb: 2}}", "services.a.resources.vram_mb: unknown key; fix: write"),
    "unknown key, nothing near": ("{image: x, qqq: 2}", "services.a.qqq: unknown key; fix: remove it; known here: args,"),
    "wrong type": ("{image: x, port: http}", "services.a.port: not a whole number: 'http'; fix: write a whole number such as 8080"),
    "out of range": ("{image: x, port: 70000}", "services.a.port: must be less than or equal to 65535, not '70000'"),
    "not a truth value": ("{image: x, pinned: maybe}", "services.a.pinned: not true or false: 'maybe'"),
    "a list for text": ("{image: [x]}", "services.a.image: not text: a list"),
    "unknown engine": ("{image: x, type: vlm}", "services.a.type: unknown value: 'vlm'; fix: write vllm; known: llama-cpp-server, vllm"),
    "nvidia runtime": ("{image: x, runtime: nvidia}", "unknown value: 'nvidia'; fix: remove it: resources.gpus asks for GPUs"),
    "runtime disagrees": ("{image: x, runtime: process}", "services.a.runtime: process does not agree with its keys, which say docker"),
    "url and image": ("{image: x, url: 'http://h'}", "services.a: url means that it runs elsewhere; fix: remove image"),
    "nothing to run": ("{port: 80}", "services.a: nothing to run; fix: give image (docker), command (process) or url (external)"),
    "bad volume": ("{image: x, volumes: [models]}", "services.a.volumes.0: not a volume: 'models'; fix: write host:container"),
    "bad volume mode": ("{image: x, volumes: ['a:/b:rx']}", "not a volume mode: 'rx'; fix: write ro or rw"),
    "relative container path": ("{image: x, volumes: ['a:b']}", "the container's path is not absolute: 'b'; fix: write a:/b"),
    "ambiguous host path": ("{image: x, volumes: ['a/b:/c']}", "neither a path nor a volume's name: 'a/b'; fix: write /a/b or ./a/b"),
    "idle 0": ("{image: x, idle_timeout_s: 0}", "services.a.idle_timeout_s: 0 is refused"),
    "sockets that are never idle": ("{image: x, timeouts: {upgrade_idle_s: 0}}", "services.a.timeouts.upgrade_idle_s: must be greater than 0"),
    "idle negative": ("{image: x, idle_timeout_s: -1}", "services.a.idle_timeout_s: must be greater than 0"),
    "unquoted port": ("{command: [serve, --port, {port}]}", 'services.a.command.2: YAML reads {port} as a mapping; fix: quote it: "{port}"'),
    "unquoted port in args": ("{command: serve, args: [--port, {port}]}", 'services.a.args.1: YAML reads {port} as a mapping'),
    "unquoted port in environment": ("{image: x, environment: {PORT: {port}}}", "services.a.environment.PORT: YAML reads {port} as a mapping"),
    "open quote": ("{command: \"serve 'x\"}", "services.a.command: can't be split into words: No closing quotation"),
    "visible devices": ("{image: x, environment: {CUDA_VISIBLE_DEVICES: 0}}", "CUDA_VISIBLE_DEVICES is set from the placement; fix: remove it and name the GPUs in resources.gpus"),
    "visible devices in a list": ("{image: x, environment: [ROCR_VISIBLE_DEVICES=0]}", "ROCR_VISIBLE_DEVICES is set from the placement"),
    "a process with volumes": ("{command: serve, volumes: ['/a:/b']}", "services.a.volumes: a command without an image is a process, not a container; fix: remove it"),
    "elsewhere with a memory limit": ("{url: 'http://x', mem_limit: 1g}", "services.a.mem_limit: a service with a url runs elsewhere, not a container"),
    "missing env file": ("{image: x, env_file: no.env}", "services.a.env_file: can't read no.env: No such file or directory; fix: create the file"),
    "missing variable": ("{image: '${IMG}'}", "services.a.image: IMG is not set; fix: set it in the environment, or write ${NAME:-default}"),
    "missing variable with a message": ("{image: '${IMG:?which image}'}", "services.a.image: IMG is not set (which image)"),
    "unreadable substitution": ("{image: '${1X}'}", "services.a.image: '${1X}' can't be read"),
    "unknown template": ("{extends: gguff, image: x}", "services.a.extends: unknown template: 'gguff'; fix: add it under templates"),
    "var that hides ours": ("{image: x, vars: {port: 1}}", "services.a.vars.port: {port} has its value from the placement"),
    "bad url": ("{url: 'llm.example.com'}", "services.a.url: not a URL of a service"),
    "credentials in a url": ("{url: 'http://u:p@host'}", "services.a.url: not a URL of a service: it has an @; fix: put credentials under headers"),
    "bad duration": ("{image: x, stop_grace_period: soon}", "services.a.stop_grace_period: not a duration: 'soon'; fix: write 30s"),
    "bad size": ("{image: x, shm_size: 3q}", "services.a.shm_size: not a size: '3q'; fix: write 512m or 2g"),
    "bad gpus": ("{image: x, resources: {gpus: all}}", "services.a.resources.gpus: neither a count nor a list of GPUs: 'all'"),
    "bad vram": ("{image: x, resources: {vram_required_mb: 9GB}}", "not a size in MiB: '9GB'; fix: write a number of MiB"),
    "bad ulimit": ("{image: x, ulimits: {nofile: {soft: 1}}}", "services.a.ulimits.nofile.hard: this key is required"),
    "bad health path": ("{image: x, health: {path: health}}", "services.a.health.path: not a path: 'health'; fix: write /health"),
    "header with a line break": ('{url: "http://h", headers: {a: "b\\nc"}}', "services.a.headers.a: a header's value may not contain control characters"),
    "bad models": ("{image: x, models: [{a: b}]}", "services.a.models: not a list of names"),
    "env_file not a list of files": ("{image: x, env_file: {a: b}}", "services.a.env_file: not a list: a mapping"),
    "environment not a map": ("{image: x, environment: X=1, env_file: []}", "services.a.environment: not a mapping (key: value): 'X=1'"),
    "nested environment list": ("{image: x, environment: [[A=1]]}", "services.a.environment: not a list of NAME=value; fix: write [NAME=value, …]"),
    "volumes not a list": ("{image: x, volumes: 'a:/b'}", "services.a.volumes: not a list: 'a:/b'"),
    "vars not a map": ("{image: x, vars: [a=b]}", "services.a.vars: not a mapping (key: value): a list"),
    "a list in vars": ("{image: x, vars: {a: [b]}}", "services.a.vars.a: not text: a list"),
    "args not a list": ("{image: x, args: {a: b, c: d}}", "services.a.args: YAML reads {a} as a mapping"),
    "extends a list": ("{image: x, extends: [t]}", "services.a.extends: not text: a list"),
    "not a service": ("5", "services.a: not a mapping (key: value): '5'"),
    "tag": ("{image: !!python/name:os.system x}", "services.a.image: tag tag:yaml.org,2002:python/name:os.system is not allowed"),
}  # fmt: skip


@pytest.mark.parametrize(("service", "expected"), ONE_LINERS.values(), ids=ONE_LINERS.keys())
def test_a_bad_service_gives_one_fault_with_its_fix(faults_of: Faults, service: str, expected: str) -> None:
    found = faults_of(f"\nservices:\n  a: {service}\n")
    assert len(found) == 1, found
    assert expected in found[0]
    assert found[0].startswith("ai-proxy.yaml:3: services.a")


WHOLE_FILES = {
    "empty": ("", "ai-proxy.yaml:1: the file is empty; fix: write services: {small:"),
    "comments only": ("# nothing\n", "ai-proxy.yaml:1: the file is empty"),
    "a list": ("- a\n", "ai-proxy.yaml:1: not a mapping of keys; fix: write services:"),
    "no services": ("name: home\n", "ai-proxy.yaml:1: services: this key is required; fix: add it, for example"),
    "services empty": ("services:\n", "ai-proxy.yaml:1: services: not a mapping (key: value): nothing"),
    "tab": ("services:\n\ta: 1\n", "ai-proxy.yaml:2: not YAML: found character '\\t'"),
    "open bracket": ("services: {a: [1\n", "ai-proxy.yaml:2: not YAML: "),
    "two documents": ("a: 1\n---\nb: 2\n", "not YAML: but found another document expected a single document"),
    "control character": ("a: \x01\n", "ai-proxy.yaml: not YAML: "),
    "duplicate key": ("services: {}\nname: a\nname: b\n", "ai-proxy.yaml:3: name: duplicate key, first on line 2; fix: keep one"),
    "duplicate service": ("services:\n  a: {image: x}\n  a: {image: y}\n", "ai-proxy.yaml:3: services.a: duplicate key, first on line 2"),
    "key that is a map": ("{a: b}: c\nservices: {}\n", "a key must be plain text"),
    "bad id": ("services:\n  My Model: {image: x}\n", "ai-proxy.yaml:2: services.My Model: not a service id: 'My Model'"),
    "bad name": ("name: Home!\nservices: {}\n", "ai-proxy.yaml:1: name: not of the form"),
    "unknown default service": ("default_service: caht\nservices:\n  chat: {image: x}\n", "ai-proxy.yaml:1: default_service: no such service: 'caht'; fix: write chat"),
    "llama-swap's models": ("models: {}\nservices: {}\n", "ai-proxy.yaml:1: models: unknown key; fix: write services"),
    "service key at the top": ("idle_timeout_s: 3\nservices: {}\n", "fix: move it to services.<id>.idle_timeout_s, or under defaults for all services"),
    "templates a list": ("templates: [a]\nservices: {}\n", "ai-proxy.yaml:1: templates: not a mapping"),
    "anchor in itself": ("x-a: &a {b: *a}\nservices: {}\n", "x-a.b: this anchor contains itself"),
    "merge of text": ("services:\n  a:\n    <<: x\n    image: y\n", "services.a.<<: << needs a mapping"),
    "unknown device": ("devices: [{id: 0, vram_mb: 1}]\nservices:\n  a: {image: x, resources: {gpus: ['1']}}\n", "ai-proxy.yaml:3: services.a.resources.gpus.0: devices lists no GPU '1'; fix: write one of 0"),
    "too many devices": ("devices: [{id: 0, vram_mb: 1}]\nservices:\n  a: {image: x, resources: {gpus: 2}}\n", "services.a.resources.gpus: devices lists only 1"),
    "device twice": ("devices: [{id: 0, vram_mb: 1}, {id: 0, vram_mb: 1}]\nservices: {}\n", "devices.1.id: device '0' is listed twice"),
    "devices neither": ("devices: all\nservices: {}\n", "ai-proxy.yaml:1: devices: unknown value: 'all'; fix: write one of auto"),
    "defaults extend": ("templates: {t: {}}\ndefaults: {extends: t}\nservices: {}\n", "ai-proxy.yaml:2: defaults.extends: defaults extend nothing"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), WHOLE_FILES.values(), ids=WHOLE_FILES.keys())
def test_l17_a_bad_file_gives_one_fault_with_its_line(faults_of: Faults, text: str, expected: str) -> None:
    found = faults_of(text)
    assert len(found) == 1, found
    assert expected in found[0]


def test_l17_all_faults_come_at_once_in_the_order_of_the_file(faults_of: Faults) -> None:
    found = faults_of(
        """\
        server: {prot: 1}
        default_service: nobody
        services:
          a: {image: "${NOPE}", port: x, ttl: 5}
          b: {models: [a]}
        """
    )
    assert [line.split(";")[0] for line in found] == [
        "ai-proxy.yaml:1: server.prot: unknown key",
        "ai-proxy.yaml:2: default_service: no such service: 'nobody'",
        "ai-proxy.yaml:4: services.a.image: NOPE is not set",
        "ai-proxy.yaml:4: services.a.port: not a whole number: 'x'",
        "ai-proxy.yaml:4: services.a.ttl: unknown key",
        "ai-proxy.yaml:5: services.b: nothing to run",
        "ai-proxy.yaml:5: services.b.models.0: model 'a' belongs to service a already",
    ]


def test_a_fault_in_a_template_is_shown_once_at_the_template(faults_of: Faults) -> None:
    found = faults_of(
        """\
        templates:
          t:
            image: x
            port: y
        services: {a: {extends: t}, b: {extends: t}}
        """
    )
    assert found == [
        "ai-proxy.yaml:4: templates.t.port: not a whole number: 'y'; fix: write a whole number such as 8080"
    ]


def test_a_template_that_no_service_uses_is_checked_too(faults_of: Faults) -> None:
    found = faults_of("templates: {t: {cmd: x}}\ndefaults: {idle_timeout_s: 0}\nservices: {}\n")
    assert [line.split(":")[1] for line in found] == ["1", "2"]


def test_templates_that_extend_each_other_are_a_fault(faults_of: Faults) -> None:
    found = faults_of("templates: {t: {extends: u}, u: {extends: t}}\nservices: {a: {extends: t, image: x}}\n")
    assert any("templates extend each other: t > u > t" in line for line in found)


def test_two_services_may_not_offer_one_model(faults_of: Faults) -> None:
    found = faults_of("services:\n  a: {image: x}\n  b: {image: x, models: {a: real}}\n")
    assert found == [
        "ai-proxy.yaml:3: services.b.models.a: model 'a' belongs to service a already; fix: rename it in one of them, or remove it"
    ]


def test_every_missing_variable_of_a_text_is_named(faults_of: Faults) -> None:
    (fault,) = faults_of("services: {a: {image: '${A}/${B:?the tag}'}}")
    assert "A is not set, B is not set (the tag)" in fault


@pytest.mark.parametrize(
    "text",
    [
        "services: {a: {image: x}}\nkeys: [{name: a, hash: '${NONE}'}, {name: b, hash: '${NONE}'}]",
        "services: {a: {image: x, port: '${NONE}', stop_grace_period: '${NONE}s', models: ['${NONE}', '${NONE}']}}",
        "services: {a: {image: x, extends: '${NONE}', requires: '${NONE}', env_file: '${NONE}/a', url: '${NONE}'}}",
        "services: {a: {image: x, resources: {gpus: ['${NONE}'], mine: '${NONE}'}}}\ndefault_service: '${NONE}'",
        "services: {a: {command: '${NONE} \"'}}\nserver: {host: '${NONE}', trusted_proxies: ['${NONE}']}",
    ],
    ids=["hash", "types", "names", "resources", "server"],
)
def test_a_value_that_is_not_known_has_one_fault(faults_of: Faults, text: str) -> None:
    found = faults_of(f"{text}\ncapacities: {{mine: 1}}")
    assert len(found) == text.count("${NONE}")
    assert all(": NONE is not set; fix: set it in the environment" in line for line in found)


def test_a_bad_line_of_an_env_file_is_named_but_not_shown(faults_of: Faults, tmp_path: Path) -> None:
    (tmp_path / "a.env").write_text("A=1\nsk-secret\n")
    (fault,) = faults_of("services: {a: {image: x, env_file: a.env}}")
    assert fault == "a.env:2: not a NAME=value line; fix: write NAME=value, or # for a comment"


def test_anchors_that_grow_without_bound_are_refused(faults_of: Faults) -> None:
    bomb = "x-0: &b0 [a, a, a, a, a, a, a, a, a, a]\n" + "".join(
        f"x-{level}: &b{level} [{', '.join([f'*b{level - 1}'] * 10)}]\n" for level in range(1, 8)
    )
    found = faults_of(bomb + "services: {}\n")
    assert "anchors grow to more than" in found[0]


def test_a_missing_file_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read: No such file or directory; fix: check the path"):
        load(tmp_path / "none.yaml", {})


def test_a_file_that_is_not_text_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        load(tmp_path / "a.yaml", {})
