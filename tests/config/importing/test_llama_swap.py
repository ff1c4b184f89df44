"""llama-swap's files mean here what they mean there, or it is said that they don't."""

import pytest

from ai_proxy.config.faults import ConfigError
from ai_proxy.config.models import EngineType, RuntimeKind
from ai_proxy.config.sharing import Priority
from tests.config.importing.conftest import SAMPLES, Import

SAMPLE = (SAMPLES / "llama-swap.yaml").read_text("utf-8")


def model(keys: str, top: str = "") -> str:
    return f"models: {{m: {{{keys}}}}}\n{top}"


def test_a_whole_file_is_fine_here(imported: Import) -> None:
    services = imported(SAMPLE).config.services
    assert {name: (it.kind, it.type) for name, it in services.items()} == {
        "qwen3-coder-30b": (RuntimeKind.PROCESS, EngineType.LLAMA_CPP_SERVER),
        "qwen-small": (RuntimeKind.PROCESS, EngineType.LLAMA_CPP_SERVER),
        "embed": (RuntimeKind.PROCESS, EngineType.LLAMA_CPP_SERVER),
        "vllm-big": (RuntimeKind.DOCKER, EngineType.VLLM),
        "tts": (RuntimeKind.PROCESS, EngineType.GENERIC),
        "openrouter": (RuntimeKind.EXTERNAL, EngineType.GENERIC),
    }


def test_what_was_not_carried_over_is_listed_with_its_place(imported: Import) -> None:
    assert [line.partition(": ")[0] for line in imported(SAMPLE).left] == [
        "logToStdout",
        "sendLoadingState",
        "apiKeys",
        "models.Qwen3-Coder-30B.filters.stripParams",
        "models.qwen-small.name",
        "models.vllm-big.timeouts.idleConn",
        "models.tts.cmdStop",
        "peers.openrouter.filters",
    ]


def test_macros_are_filled_in_the_models_own_before_those_of_all(imported: Import) -> None:
    command = imported(SAMPLE).config.services["qwen3-coder-30b"].command or ()
    assert command[:5] == ("/opt/llama.cpp/build/bin/llama-server", "--host", "127.0.0.1", "--port", "{port}")
    assert command[command.index("--ctx-size") + 1] == "32768"
    assert command[-4:] == ("--alias", "Qwen3-Coder-30B", "--chat-template-kwargs", '{"enable_thinking": false}')


def test_a_name_that_is_no_macro_is_told(imported: Import) -> None:
    assert imported(model("cmd: 'serve ${nobody}'")).left == [
        "models.m.cmd: ${nobody} is no macro; write what it stands for"
    ]


def test_the_environment_stays_a_reference(imported: Import) -> None:
    result = imported(
        model("cmd: 'serve ${dir}/x --key ${env.KEY} --port ${PORT}'", "macros: {dir: '${env.HOME}/models'}")
    )
    assert result.service.command == ("serve", "/env/HOME/models/x", "--key", "/env/KEY", "--port", "{port}")
    assert "${HOME}/models/x" in result.text


def test_a_dollar_that_is_no_reference_survives(imported: Import) -> None:
    result = imported(model("cmd: 'serve --re ^a$ --cash $$5 --port ${PORT}'"))
    assert (result.service.command or ())[:5] == ("serve", "--re", "^a$", "--cash", "$$5")


@pytest.mark.parametrize(
    ("keys", "top", "idle_s"),
    [
        ("ttl: 60", "globalTTL: 5", 60),
        ("ttl: 0", "globalTTL: 5", None),
        ("ttl: -1", "globalTTL: 5", 5),
        ("name: x", "globalTTL: 5", 5),
        ("ttl: -1", "globalTTL: 0", None),
        ("ttl: -1", "", None),
    ],
)
def test_a_ttl_of_0_is_never_and_of_minus_1_that_of_all(
    keys: str, top: str, idle_s: float | None, imported: Import
) -> None:
    assert imported(model(f"cmd: x, {keys}", top)).service.idle_timeout_s == idle_s


def test_names_lead_to_the_model_as_before(imported: Import) -> None:
    result = imported(
        """
        models:
          Org/Model: {cmd: x, aliases: [gpt-4o, {id: other, unlisted: true}]}
          mapped: {cmd: x, useModelName: engine/name, aliases: [m]}
          plain: {cmd: x}
        """
    )
    assert {name: service.models for name, service in result.config.services.items()} == {
        "org-model": {"Org/Model": None, "gpt-4o": None, "other": None},
        "mapped": {"mapped": "engine/name", "m": "engine/name"},
        "plain": None,
    }


def test_ids_stay_apart_where_names_differ_only_in_what_an_id_can_not_hold(imported: Import) -> None:
    assert list(imported("models: {Qwen 3: {cmd: x}, qwen/3: {cmd: x}}").config.services) == ["qwen-3", "qwen-3-2"]


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        ("cmd: llama-server", None),
        ("cmd: llama-server, checkEndpoint: /health", None),
        ("cmd: llama-server, checkEndpoint: /v1/models", "/v1/models"),
        ("cmd: llama-server, checkEndpoint: none", None),
        ("cmd: other", "/health"),
        ("cmd: other, checkEndpoint: up", "/up"),
        ("cmd: other, checkEndpoint: none", None),
    ],
)
def test_health_is_asked_for_where_it_was(keys: str, path: str | None, imported: Import) -> None:
    assert imported(model(keys)).service.health.path == path


def test_a_port_of_its_own_is_taken_from_the_proxy_url(imported: Import) -> None:
    assert imported(model("cmd: serve --port 8999, proxy: 'http://127.0.0.1:8999'")).service.port == 8999
    assert imported(model("cmd: 'serve --port ${PORT}'")).service.port is None


def test_a_proxy_url_that_we_can_not_follow_is_told(imported: Import) -> None:
    (elsewhere,) = imported(model("cmd: serve, proxy: 'http://10.0.0.5:1'")).left
    assert elsewhere.startswith("models.m.proxy: http://10.0.0.5:1 is not this machine")
    (below,) = imported(model("cmd: serve, proxy: 'http://localhost:1/api'")).left
    assert below.startswith("models.m.proxy: the path /api is not put before requests")


@pytest.mark.parametrize(
    ("keys", "gpus"),
    [
        ("cmd: llama-server, env: [CUDA_VISIBLE_DEVICES=0]", ("0",)),
        ('cmd: llama-server, env: ["CUDA_VISIBLE_DEVICES=1,GPU-5d2c"]', ("1", "GPU-5d2c")),
        ("cmd: llama-server, env: [HIP_VISIBLE_DEVICES=]", 0),
        ("cmd: llama-server -ngl 0", 0),
        ("cmd: llama-server --device none", 0),
        ('cmd: "llama-server --tensor-split 3,1"', 2),
        ("cmd: vllm serve m --tensor-parallel-size=4", 4),
        ("cmd: llama-server -ngl 99", None),
    ],
)
def test_gpus_follow_from_what_is_said_about_them(
    keys: str, gpus: int | tuple[str, ...] | None, imported: Import
) -> None:
    service = imported(model(keys)).service
    assert service.resources.gpus == gpus
    assert service.environment == {}


def test_limits_and_deadlines_keep_their_meaning(imported: Import) -> None:
    service = imported(
        model(
            "cmd: x, concurrencyLimit: 4, unloadTimeout: 60, unlisted: true, timeouts: {connect: 9, responseHeader: 0}",
            "healthCheckTimeout: 5",
        )
    ).service
    assert (service.limits.max_in_flight, service.stop_grace_period, service.unlisted) == (4, 60, True)
    assert (service.timeouts.connect_s, service.timeouts.first_byte_s) == (9, 600)
    assert service.health.start_timeout_s == 15  # it takes no less


def test_preloading_goes_to_the_models_even_by_an_alias(imported: Import) -> None:
    services = imported(SAMPLE).config.services
    assert [name for name, service in services.items() if service.preload] == ["qwen3-coder-30b", "embed"]


def test_peers_are_services_elsewhere(imported: Import) -> None:
    peer = imported(SAMPLE).config.services["openrouter"]
    assert peer.url == "https://openrouter.ai/api"
    assert peer.headers["authorization"] == "Bearer /env/OPENROUTER_API_KEY"
    assert list(peer.models or ()) == ["deepseek/deepseek-v3.2", "z-ai/glm-4.7"]


def test_a_name_that_several_offer_is_the_first_ones(imported: Import) -> None:
    result = imported(
        """
        models: {m: {cmd: x, aliases: [a]}}
        peers: {one: {proxy: "http://one", models: [a, b]}, two: {proxy: "http://two", models: [b, c]}}
        """
    )
    assert [list(service.models or ()) for service in result.config.services.values()] == [["m", "a"], ["b"], ["c"]]
    assert [line.partition(": ")[0] for line in result.left] == ["peers.one.models", "peers.two.models"]


@pytest.mark.parametrize("command", ["serve 'open", "docker run --rm", "# nothing"])
def test_a_model_of_which_nothing_can_run_is_left_out_and_told(command: str, imported: Import) -> None:
    result = imported(f'models: {{m: {{cmd: "{command}"}}, other: {{cmd: x}}}}\ngroups: {{g: {{members: [m, other]}}}}')
    assert list(result.config.services) == ["other"]
    assert result.left[-1] == "models.m: left out, for it does not say what to run; write it by hand"


def test_a_model_without_a_command_runs_elsewhere(imported: Import) -> None:
    assert imported(model("proxy: 'http://10.0.0.5:8000/'")).service.url == "http://10.0.0.5:8000"


def test_the_priority_of_requests_is_one_of_ours(imported: Import) -> None:
    services = imported(
        """
        models: {a: {cmd: x}, b: {cmd: x}, c: {cmd: x}}
        routing: {scheduler: {use: fifo, settings: {fifo: {priority: {a: 10, c: -1}}}}}
        """
    ).config.services
    assert [it.priority for it in services.values()] == [Priority.HIGH, Priority.NORMAL, Priority.LOW]


@pytest.mark.parametrize("text", ["", "[1]", "services: {}", "x: 1", "{nothing here", "models: [&a *a"])
def test_what_is_no_such_file_is_refused(text: str, imported: Import) -> None:
    with pytest.raises(ConfigError):
        imported(text)
