"""The order of routing, and what model names mean."""

import pytest

from ai_proxy.config.models import Config
from ai_proxy.engines.profile import Dialect
from ai_proxy.errors import MethodNotAllowed, ModelMissing, UnknownModel, UnknownPath
from ai_proxy.routing.endpoints import ENDPOINTS, ByModel, dialect_of
from ai_proxy.routing.names import ListedModel, Target
from ai_proxy.routing.table import ListModels, Redirect, Route, RouteTable, ShowModel


def table(default: str | None = None, **services: dict[str, object]) -> RouteTable:
    chosen = services or {"chat": {}, "comfyui": {"models": []}}
    return RouteTable(
        Config.model_validate(
            {
                "default_service": default,
                "services": {
                    name.replace("__", "."): {"url": "http://127.0.0.1:1", **keys} for name, keys in chosen.items()
                },
            }
        )
    )


class TestPaths:
    def test_a_prefix_is_stripped(self) -> None:
        assert table().match(b"/comfyui/prompt") == Route("comfyui", b"/prompt")

    def test_a_prefix_with_only_a_slash_asks_for_the_root(self) -> None:
        assert table().match(b"/comfyui/") == Route("comfyui", b"/")

    @pytest.mark.parametrize("rest", [b"/a%2Fb", b"//x", b"/../etc", b"/a;b", b"/%C3%A9", b"/\xff", b"/a/./b"])
    def test_b40_the_rest_of_the_path_stays_raw(self, rest: bytes) -> None:
        assert table().match(b"/comfyui" + rest) == Route("comfyui", rest)
        assert table().match(b"/services/comfyui" + rest) == Route("comfyui", rest)

    @pytest.mark.parametrize("path", [b"/comfy%75i/x", b"/COMFYUI/x", b"//comfyui/x", b"/comfyui%2Fx"])
    def test_an_id_that_is_spelled_otherwise_is_no_id(self, path: bytes) -> None:
        with pytest.raises(UnknownPath):
            table().match(path)

    @pytest.mark.parametrize("reserved", ["api", "health", "metrics", "running", "services", "ui", "upstream", "v1"])
    def test_an_id_that_collides_is_reached_below_services(self, reserved: str) -> None:
        routes = table(None, **{reserved: {}})
        assert routes.match(f"/services/{reserved}/x".encode()) == Route(reserved, b"/x")
        assert routes.match(b"/v1/chat/completions") == ENDPOINTS[b"/v1/chat/completions"]
        assert routes.match(b"/api/chat") == ByModel(Dialect.OLLAMA, post_only=True)

    def test_a_prefix_beats_an_endpoint_of_the_same_spelling(self) -> None:
        assert table().match(b"/chat/completions") == Route("chat", b"/completions")
        assert table(other={}).match(b"/chat/completions") == ByModel(post_only=True, events=True)

    def test_an_endpoint_beats_the_redirect_of_a_service_of_that_name(self) -> None:
        routes = table(embeddings={})
        assert routes.match(b"/embeddings") == ByModel(post_only=True)
        assert routes.match(b"/embeddings/v1/embeddings") == Route("embeddings", b"/v1/embeddings")

    def test_a_prefix_without_its_slash_is_redirected(self) -> None:
        assert table().match(b"/comfyui", "GET") == Redirect(b"/comfyui/")
        assert table().match(b"/services/chat", "GET") == Redirect(b"/services/chat/")

    @pytest.mark.parametrize(
        ("path", "route"),
        [
            (b"/upstream/Qwen/Qwen3-8B/health", Route("chat", b"/health")),
            (b"/upstream/Qwen%2FQwen3-8B/a%2Fb", Route("chat", b"/a%2Fb")),
            (b"/upstream/gpt:mini/", Route("chat", b"/")),
            (b"/upstream/chat/props", Route("chat", b"/props")),
            (b"/upstream/comfyui//x", Route("comfyui", b"//x")),
            (b"/upstream/other/v1/models", Route("comfyui", b"/v1/models")),
            (b"/upstream/Qwen/Qwen3-8B", Redirect(b"/upstream/Qwen/Qwen3-8B/")),
            (b"/upstream/comfyui", Redirect(b"/upstream/comfyui/")),
        ],
    )
    def test_a_model_or_an_id_below_upstream_is_its_service(self, path: bytes, route: Route | Redirect) -> None:
        models = ["Qwen/Qwen3-8B", "gpt:mini", "big-*"]
        routes = table(chat={"models": models}, comfyui={"models": ["other"]}, other={"models": []})
        assert routes.match(path, "GET") == route

    @pytest.mark.parametrize("path", [b"/upstream/nobody/x", b"/upstream/", b"/upstream", b"/upstream/big-one/x"])
    def test_nothing_else_is_below_upstream(self, path: bytes) -> None:
        with pytest.raises(UnknownPath):
            table(chat={"models": ["a/b", "big-*"]}).match(path, "GET")

    def test_the_header_beats_every_path(self) -> None:
        assert table().match(b"/v1/models", "GET", forced=b"comfyui") == Route("comfyui", b"/v1/models")
        assert table().match(b"/chat/x", forced=b"comfyui") == Route("comfyui", b"/chat/x")

    @pytest.mark.parametrize("forced", [b"comfy", b"", b"\xff", b"http://evil/"])
    def test_a_header_that_names_no_service_is_refused(self, forced: bytes) -> None:
        with pytest.raises(UnknownPath, match="X-AI-Proxy-Service names no service"):
            table(default="chat").match(b"/x", forced=forced)

    def test_an_unknown_path_names_the_nearest_service(self) -> None:
        with pytest.raises(UnknownPath, match="did you mean comfyui"):
            table().match(b"/comfy-ui/prompt")

    @pytest.mark.parametrize("path", [b"", b"*", b"/", b"x", b"/" * 5000, b"/services/", b"/services//x"])
    def test_odd_paths_are_unknown_not_errors_of_ours(self, path: bytes) -> None:
        with pytest.raises(UnknownPath) as caught:
            table().match(path)
        assert len(caught.value.message) < 300

    def test_the_default_service_takes_unknown_paths_as_they_are(self) -> None:
        assert table(default="comfyui").match(b"/queue") == Route("comfyui", b"/queue")
        assert table(default="comfyui").match(b"/", "GET") == Route("comfyui", b"/")

    def test_the_default_service_does_not_take_a_wrong_id_below_services(self) -> None:
        with pytest.raises(UnknownPath):
            table(default="comfyui").match(b"/services/nobody/x")


class TestEndpoints:
    @pytest.mark.parametrize("path", sorted(ENDPOINTS))
    def test_every_engine_endpoint_is_routed_by_model(self, path: bytes) -> None:
        assert table(zzz={}).match(path) is ENDPOINTS[path]

    def test_anything_else_under_v1_is_routed_by_model(self) -> None:
        assert table().match(b"/v1/batches/7/cancel", "GET") == ByModel()

    @pytest.mark.parametrize("path", [b"/v1/../sleep", b"/v1/a/%2e%2E/b", b"/v1/..%2Fsleep", b"/v1/.."])
    def test_what_leads_out_of_v1_is_not(self, path: bytes) -> None:
        with pytest.raises(UnknownPath):
            table().match(path)
        assert table(default="comfyui").match(path) == Route("comfyui", path)

    def test_a_post_only_endpoint_refuses_other_methods(self) -> None:
        with pytest.raises(MethodNotAllowed, match="answers to POST, not to 'GET'"):
            table().match(b"/v1/chat/completions", "GET")

    @pytest.mark.parametrize("path", [b"/v1/models", b"/v1/models/", b"/models"])
    def test_the_model_list_is_ours(self, path: bytes) -> None:
        assert table(default="comfyui").match(path, "GET") == ListModels()

    @pytest.mark.parametrize(
        ("path", "name"),
        [
            (b"Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
            (b"Qwen%2FQwen3-8B", "Qwen/Qwen3-8B"),
            (b"%E6%97%A5", "日"),
            (b"%FF", "�"),
        ],
    )
    def test_a_model_is_shown_by_its_decoded_name(self, path: bytes, name: str) -> None:
        assert table().match(b"/v1/models/" + path, "HEAD") == ShowModel(name)

    def test_the_model_list_answers_to_get_only(self) -> None:
        with pytest.raises(MethodNotAllowed):
            table().match(b"/v1/models/chat", "DELETE")

    def test_errors_take_the_shape_of_the_dialect(self) -> None:
        assert dialect_of(b"/v1/messages") is Dialect.ANTHROPIC
        assert dialect_of(b"/api/generate") is Dialect.OLLAMA
        assert dialect_of(b"/anything") is Dialect.OPENAI


class TestModels:
    def test_a_service_without_models_offers_its_id(self) -> None:
        assert table(qwen3__8b={}).resolve("qwen3.8b") == Target("qwen3.8b")

    def test_a_list_passes_the_name_on(self) -> None:
        assert table(cloud={"models": ["big", "small"]}).resolve("small") == Target("cloud")

    def test_a_map_renames(self) -> None:
        routes = table(chat={"models": {"gpt-4o-mini": "Qwen/Qwen2.5-32B-Instruct"}})
        assert routes.resolve("gpt-4o-mini") == Target("chat", "Qwen/Qwen2.5-32B-Instruct")

    def test_a_map_onto_itself_renames_nothing(self) -> None:
        assert table(chat={"models": {"chat": "chat"}}).resolve("chat") == Target("chat")

    def test_the_id_is_no_model_where_models_are_given(self) -> None:
        with pytest.raises(UnknownModel):
            table(cloud={"models": ["big"]}).resolve("cloud")

    def test_exact_beats_wildcard_and_the_longest_wildcard_wins(self) -> None:
        routes = table(
            a={"models": ["*"]}, b={"models": ["big-*"]}, c={"models": ["big-*-instruct"]}, d={"models": ["big-7b"]}
        )
        found = [routes.resolve(name).service for name in ("x", "big-1", "big-1-instruct", "big-7b")]
        assert found == ["a", "b", "c", "d"]

    def test_only_the_star_is_special_in_a_wildcard(self) -> None:
        routes = table(a={"models": ["m[1]?.*"]})
        assert routes.resolve("m[1]?.gguf") == Target("a")
        with pytest.raises(UnknownModel):
            routes.resolve("m1xxgguf")

    def test_a_wildcard_matches_the_whole_name_and_newlines_do_not_end_it(self) -> None:
        routes = table(a={"models": ["big-*-it"]})
        with pytest.raises(UnknownModel):
            routes.resolve("big-1-it\n")
        assert routes.resolve("big-\n-it") == Target("a")

    def test_a_wildcard_renames_to_the_one_name_it_maps_to(self) -> None:
        assert table(a={"models": {"gpt-*": "qwen"}}).resolve("gpt-5") == Target("a", "qwen")

    def test_an_unknown_model_is_not_the_default_services(self) -> None:
        with pytest.raises(UnknownModel, match=r"no model 'qwen-3' here; did you mean qwen3\?") as caught:
            table(default="qwen3", qwen3={}, whisper={}).resolve("qwen-3")
        assert (caught.value.status, caught.value.param) == (404, "model")

    def test_what_the_client_sent_is_shown_escaped_and_bounded(self) -> None:
        with pytest.raises(UnknownModel) as caught:
            table().resolve("\r\n\x1b[31m" + "x" * 100_000)
        assert caught.value.message.startswith(r"no model '\r\n\x1b[31mxxx")
        assert len(caught.value.message) < 200

    def test_no_model_is_the_default_services_case(self) -> None:
        assert table(default="comfyui").resolve(None) == Target("comfyui")

    def test_no_model_and_no_default_is_an_error_that_says_what_to_do(self) -> None:
        with pytest.raises(ModelMissing, match="put a `model` into the JSON body"):
            table().resolve(None)

    def test_the_list_leaves_out_wildcards_and_unlisted_services(self) -> None:
        routes = table(a={"models": ["x", "y-*"]}, b={"unlisted": True}, c={})
        assert routes.listed == (ListedModel("x", "a"), ListedModel("c", "c"))
        assert routes.resolve("b") == Target("b")

    def test_unlisted_names_are_never_suggested(self) -> None:
        with pytest.raises(UnknownModel, match="none is known"):
            table(secret={"unlisted": True}).resolve("secrets")


class TestConfigFaults:
    def test_two_services_may_not_claim_one_name(self) -> None:
        with pytest.raises(ValueError, match="model 'b' is claimed by two services: a, b"):
            table(a={"models": ["b"]}, b={})

    def test_the_default_service_must_exist(self) -> None:
        with pytest.raises(ValueError, match="default_service names no service: 'nobody'"):
            table(default="nobody", a={})

    def test_the_default_service_may_be_one_whose_file_has_not_come_yet(self) -> None:
        rules = [{"glob": "*.gguf", "extends": "gguf"}]
        config = {"default_service": "late", "discover": rules, "services": {"a": {"url": "http://127.0.0.1:1"}}}
        with pytest.raises(UnknownPath):
            RouteTable(Config.model_validate(config)).match(b"/queue")


def test_a_port_of_a_services_own_leaves_every_path_as_it_is_while_there_is_that_service() -> None:
    assert table(chat={}).on_port_of("chat", b"/v1/models") == Route("chat", b"/v1/models")
    with pytest.raises(UnknownPath, match="the port names no service"):
        table(other={}).on_port_of("chat", b"/")
