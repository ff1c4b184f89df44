"""The engines' own endpoints that are routed by model, and the dialect that each speaks.

Pure data: exact paths as the engines document them (OpenAI and vLLM under /v1, llama.cpp and vLLM at the root,
Anthropic's messages, Ollama's generation calls). What is not listed here and not under /v1 is not routed by model.
"""

from dataclasses import dataclass

from ai_proxy.engines.profile import Dialect


@dataclass(frozen=True, slots=True)
class ByModel:
    """The request must name a model; the path goes upstream as it is.

    Attributes:
        dialect: The API that the path belongs to.
        post_only: The endpoint answers to POST alone.
        events: Where a request says `stream: true`, the answer is server-sent events in every engine.
    """

    dialect: Dialect = Dialect.OPENAI
    post_only: bool = False
    events: bool = False


RESERVED = frozenset({
    b"api", b"health", b"metrics", b"running", b"services", b"ui", b"unload", b"upstream", b"v1",
})  # fmt: skip
"""First path segments that are never a service's prefix; such an id is reached by /services/{id}/ only."""

ANY_V1 = ByModel()

_MOST_PREFIXED = 3  # segments: /upstream/org/model

# Images, speech and transcriptions stream as well, but some engines answer with JSON or sound all the same.
_OPENAI_EVENTS = (
    b"/chat/completions",
    b"/completion",
    b"/completions",
    b"/infill",
    b"/responses",
    b"/v1/chat/completions",
    b"/v1/completions",
    b"/v1/responses",
)
_OPENAI_POST = (
    b"/v1/audio/speech",
    b"/v1/audio/transcriptions",
    b"/v1/audio/translations",
    b"/v1/embeddings",
    b"/v1/images/edits",
    b"/v1/images/generations",
    b"/v1/images/variations",
    b"/v1/moderations",
    b"/v1/rerank",
    b"/v1/reranking",
    b"/v1/score",
    b"/v2/embed",
    b"/v2/rerank",
)
_NATIVE_POST = (
    b"/apply-template",
    b"/audio/transcriptions",
    b"/chat/completions/input_tokens",
    b"/classify",
    b"/detokenize",
    b"/embedding",
    b"/embeddings",
    b"/pooling",
    b"/rerank",
    b"/reranking",
    b"/responses/input_tokens",
    b"/score",
    b"/tokenize",
)
_NATIVE = (b"/lora-adapters", b"/props", b"/slots")
_OLLAMA_POST = (b"/api/chat", b"/api/embed", b"/api/embeddings", b"/api/generate", b"/api/show")

ENDPOINTS: dict[bytes, ByModel] = {
    **dict.fromkeys(_OPENAI_POST + _NATIVE_POST, ByModel(post_only=True)),
    **dict.fromkeys(_OPENAI_EVENTS, ByModel(post_only=True, events=True)),
    **dict.fromkeys(_NATIVE, ANY_V1),
    b"/v1/messages": ByModel(Dialect.ANTHROPIC, post_only=True, events=True),
    b"/v1/messages/count_tokens": ByModel(Dialect.ANTHROPIC, post_only=True),
    **dict.fromkeys(_OLLAMA_POST, ByModel(Dialect.OLLAMA, post_only=True)),
}

MESSAGES: frozenset[bytes] = frozenset(path for path, it in ENDPOINTS.items() if it.dialect is Dialect.ANTHROPIC)
"""Anthropic's, as an engine is asked for them: its SDK reads the request's id from `request-id`."""


def dialect_of(path: bytes) -> Dialect:
    """The API that a path belongs to; it decides how our own errors look.

    A request that is refused before it is routed still has its service's prefix.

    Example:
        >>> dialect_of(b"/v1/messages"), dialect_of(b"/chat/api/chat"), dialect_of(b"/queue")
        (<Dialect.ANTHROPIC: 'anthropic'>, <Dialect.OLLAMA: 'ollama'>, <Dialect.OPENAI: 'openai'>)
    """
    endpoint = ENDPOINTS.get(path)
    for _ in range(_MOST_PREFIXED):
        slash = path.find(b"/", 1)
        if endpoint is not None or slash < 0:
            break
        path = path[slash:]
        endpoint = ENDPOINTS.get(path)
    return (endpoint or ANY_V1).dialect


def streams_events(path: bytes) -> bool:
    """Whether a request to an upstream path that says `stream: true` is answered with server-sent events.

    Example:
        >>> streams_events(b"/v1/chat/completions"), streams_events(b"/api/chat"), streams_events(b"/v1/audio/speech")
        (True, False, False)
    """
    return ENDPOINTS.get(path, ANY_V1).events
