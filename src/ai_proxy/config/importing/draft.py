"""A config of ours while it is being made: services with their keys and remarks, and what could not be carried over.

Pure data. Knows no other tool; `write` makes a file of it.
"""

from dataclasses import dataclass, field

ENV_OPENS, ENV_CLOSES = "\ue000", "\ue001"
"""Mark the name of an environment variable inside a text, from reading to writing: private characters, in no file."""

PORT = "{port}"


@dataclass(frozen=True, slots=True)
class Left:
    """Something that was not carried over.

    Attributes:
        path: Its place in the source.
        why: What it was, or why not.
        fix: What to do about it.
    """

    path: str
    why: str
    fix: str

    def __str__(self) -> str:
        return f"{self.path}: {self.why}; {self.fix}"


@dataclass(slots=True)
class ServiceDraft:
    """One service.

    Attributes:
        path: Where it comes from in the source.
        keys: Its keys as a file would have them; commands as lists of words.
        remarks: What was decided for it, for comments.
        left: What of it was not carried over.
    """

    path: str
    keys: dict[str, object] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)

    def put(self, key: str, value: object) -> None:
        """Set a key; with a dot, one of a section."""
        section, dot, name = key.partition(".")
        if not dot:
            self.keys[key] = value
            return
        inner = self.keys.setdefault(section, {})
        if isinstance(inner, dict):
            inner[name] = value

    @property
    def runs(self) -> bool:
        """Whether it says what is to run, or where."""
        return not self.keys.keys().isdisjoint({"command", "image", "url"})

    def leave(self, key: str, why: str, fix: str) -> None:
        """Note what was not carried over."""
        self.left.append(Left(f"{self.path}.{key}", why, fix))


@dataclass(slots=True)
class Draft:
    """A whole config.

    Attributes:
        tool: What the source was made for.
        top: Keys outside the services.
        services: The services by id, in the source's order.
        remarks: What was decided for all of them.
        left: What was not carried over, that of the services included once they are added.
    """

    tool: str
    top: dict[str, object] = field(default_factory=dict)
    services: dict[str, ServiceDraft] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)

    def add(self, service_id: str, service: ServiceDraft) -> None:
        """Take in a finished service, or say that there is nothing to run in it."""
        self.left.extend(service.left)
        if service.runs:
            self.services[service_id] = service
        else:
            self.left.append(Left(service.path, "left out, for it does not say what to run", "write it by hand"))
