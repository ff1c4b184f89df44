"""Where a request goes: path, header or model name in, service out.

Owns the order of routing. Built once from a config and never changed; a reload builds another. Every look-up is a
dict look-up, so a thousand services cost what ten do; only wildcards are scanned. It must not know whether a service
runs, and reads no body (`extract.py` finds the name).
"""

from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from ai_proxy.config.models import Config
from ai_proxy.errors import MethodNotAllowed, ModelMissing, UnknownPath
from ai_proxy.routing.base_path import climbs
from ai_proxy.routing.endpoints import ANY_V1, ENDPOINTS, RESERVED, ByModel
from ai_proxy.routing.names import ListedModel, ModelNames, Target
from ai_proxy.routing.nearest import advice, shown


@dataclass(frozen=True, slots=True)
class Route:
    """The service is known from the path or a header; the body need not be read.

    Attributes:
        service: Its id.
        path: What it is asked for: the raw path, a prefix stripped.
    """

    service: str
    path: bytes


@dataclass(frozen=True, slots=True)
class Redirect:
    """A service's prefix without its slash: relative links would break, so the client is sent to `location`.

    Answer 307, which keeps method and body, and put the request's query behind `location`.
    """

    location: bytes


@dataclass(frozen=True, slots=True)
class ListModels:
    """The data plane itself answers with the models it offers."""


@dataclass(frozen=True, slots=True)
class ShowModel:
    """The data plane itself answers with one model."""

    name: str


type Match = Route | ByModel | Redirect | ListModels | ShowModel


class RouteTable:
    """All routes of one config; immutable.

    Args:
        config: A config whose references were checked.

    Raises:
        ValueError: Two services claim one model name, or the default service does not exist.
    """

    def __init__(self, config: Config) -> None:
        default = config.default_service
        if default is not None and default not in config.services:
            if not config.discover:
                raise ValueError(f"default_service names no service: {default!r}")
            default = None  # until its file comes
        self._default = None if default is None else Target(default)
        self._by_id = {service.encode(): service for service in config.services}
        self._by_prefix = {raw: service for raw, service in self._by_id.items() if raw not in RESERVED}
        self._endpoints = {
            path: endpoint for path, endpoint in ENDPOINTS.items() if _prefix_of(path) not in self._by_prefix
        }
        self._names = ModelNames(config.services)

    def __repr__(self) -> str:
        return f"<RouteTable {len(self._by_id)} services, {self._names!r}>"

    @property
    def listed(self) -> tuple[ListedModel, ...]:
        """What /v1/models shows, in the config's order: no wildcard, nothing of an unlisted service."""
        return self._names.listed

    def match(self, path: bytes, method: str = "POST", forced: bytes | None = None) -> Match:
        """Find what a path asks for; the first that fits wins.

        1. `forced`: that service, the path as it is.
        2. `/services/{id}/…`: that service, also where its id collides with a path of ours.
        3. `/{service}/…`: that service. `/upstream/{model}/…`: the service that offers the model, or of that id.
        4. An endpoint that is routed by model, the model list, and all else under `/v1/`.
        5. `/{service}`: a redirect that adds the slash (`/services/{id}` too).
        6. The default service.

        Endpoints are looked up before 2 and 3, as most requests are for one: those that a prefix hides are not in the
        table. Segments are compared raw: a percent-encoded id is no id, and `%2F`, `//` or `..` go upstream untouched.
        Management paths are taken by the root app before this is asked.

        Args:
            path: The raw path, without the query.
            method: The request's method.
            forced: Value of the header `X-AI-Proxy-Service`, if the request has one.

        Raises:
            UnknownPath: Nothing fits, and there is no default service.
            MethodNotAllowed: The endpoint does not answer to this method.
        """
        if forced is not None:
            return Route(self._known(forced, "header X-AI-Proxy-Service"), path)
        endpoint = self._endpoints.get(path)
        if endpoint is not None:
            if endpoint.post_only and method != "POST":
                raise MethodNotAllowed(f"{shown(path)} answers to POST, not to {shown(method)}")
            return endpoint
        slash = path.find(b"/", 1)
        if slash > 0:
            segment = path[1:slash]
            if segment == b"services":
                return self._below_services(path)
            if segment == b"upstream":
                return self._below_upstream(path)
            service = self._by_prefix.get(segment)
            if service is not None:
                return Route(service, path[slash:])
        return self._listing(path, method) or self._bare_prefix(path) or self._fallback(path)

    def on_port_of(self, service: str, path: bytes) -> Route:
        """Find what is asked for on a port that a service has for itself: every path is the service's, as it is.

        Raises:
            UnknownPath: There is no such service any more.
        """
        return Route(self._known(service.encode(), "port"), path)

    def resolve(self, name: str | None) -> Target:
        """Find the service that offers a model.

        Args:
            name: The name in the request; None where it has none, which is the default service's case.

        Raises:
            UnknownModel: The name is nobody's; the default service does not take it either.
            ModelMissing: No name, and no default service.
        """
        if name is not None:
            return self._names.resolve(name)
        if self._default is None:
            raise ModelMissing(
                "the request names no model; put a `model` into the JSON body, the form or the query "
                "(GET /v1/models lists them), or call /{service}/… instead",
                param="model",
            )
        return self._default

    def _below_services(self, path: bytes) -> Match:
        raw, slash, rest = path.removeprefix(b"/services/").partition(b"/")
        service = self._known(raw, "path")
        return Route(service, slash + rest) if slash else Redirect(path + b"/")

    def _below_upstream(self, path: bytes) -> Match:
        below = path.removeprefix(b"/upstream/")
        first, slash, rest = below.partition(b"/")
        found = self._names.leading(below)
        if found is None and first in self._by_id:
            found = self._by_id[first], slash + rest
        if found is None:
            name = first.decode("latin-1")
            known = advice(name, (model.name for model in self.listed))
            raise UnknownPath(f"the path begins with no model: {shown(name)}; {known}")
        service, rest = found
        return Route(service, rest) if rest else Redirect(path + b"/")

    def _known(self, raw: bytes, where: str) -> str:
        service = self._by_id.get(raw)
        if service is None:
            name = raw.decode("latin-1")
            raise UnknownPath(f"the {where} names no service: {shown(name)}; {advice(name, self._by_id.values())}")
        return service

    def _listing(self, path: bytes, method: str) -> Match | None:
        """What is left of /v1, and the list's name at llama.cpp's root."""
        found: Match
        if path in {b"/v1/models", b"/v1/models/", b"/models"}:
            found = ListModels()
        elif path.startswith(b"/v1/models/"):
            found = ShowModel(unquote_to_bytes(path[len(b"/v1/models/") :]).decode("utf-8", "replace"))
        else:
            # Who may use a model may not leave its API for the rest of an engine.
            return ANY_V1 if path.startswith(b"/v1/") and not climbs(path) else None
        if method not in {"GET", "HEAD"}:
            raise MethodNotAllowed(f"{shown(path)} answers to GET, not to {shown(method)}")
        return found

    def _bare_prefix(self, path: bytes) -> Redirect | None:
        return Redirect(path + b"/") if path[1:] in self._by_prefix else None

    def _fallback(self, path: bytes) -> Route:
        if self._default is not None:
            return Route(self._default.service, path)
        first = path.split(b"/", 2)[1].decode("latin-1") if path.startswith(b"/") else ""
        raise UnknownPath(
            f"no route for {shown(path)}; use /v1/… with a model, or /{{service}}/…: "
            f"{advice(first, self._by_id.values())}"
        )


def _prefix_of(path: bytes) -> bytes | None:
    """The first segment, if more follows it."""
    segment, slash, _ = path[1:].partition(b"/")
    return segment if slash else None
