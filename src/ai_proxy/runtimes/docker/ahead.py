"""Containers created ahead of their start: at most one a replica, from a spec that the start may turn out to have.

It has the replica's name, so there is no life of that replica then; it takes no name away from anything. A start
takes it if its spec is the same, else has it removed first. Neither starts anything nor knows who asked for it.
"""

import asyncio
from dataclasses import dataclass, field

from ai_proxy.errors import CannotServe, StartFailed
from ai_proxy.runtimes.base import InstanceSpec, replica_key
from ai_proxy.runtimes.docker.containers import Containers, NameTaken
from ai_proxy.runtimes.docker.maker import Maker

_UNTOUCHED = "created"


@dataclass(slots=True, eq=False)
class _Order:
    """A container that is wanted ahead.

    Attributes:
        spec: What it is created from.
        creation: Its creation, once it was begun; it is never cut off: what came of it would not be known.
        removal: Its removal, once somebody asked for that.
        is_over: A start took it, or it is being removed.
    """

    spec: InstanceSpec
    creation: asyncio.Task[str] | None = None
    removal: asyncio.Task[None] | None = None
    is_over: asyncio.Event = field(default_factory=asyncio.Event)

    def is_for(self, spec: InstanceSpec) -> bool:
        """Whether its container is the one that a spec asks for."""
        return (self.spec.spec_hash, self.spec.placement) == (spec.spec_hash, spec.placement)


class Ahead:
    """What was created ahead on one engine.

    Args:
        maker: Creates and removes.
        containers: Tell what became of it.
    """

    def __init__(self, maker: Maker, containers: Containers) -> None:
        self._maker = maker
        self._containers = containers
        # The last order of each replica, until its container is a start's or gone
        self._orders: dict[str, _Order] = {}

    def __repr__(self) -> str:
        return f"Ahead({sorted(self._orders)})"

    async def hold(self, spec: InstanceSpec) -> None:
        """Create a container and keep it for a start; return once that has come.

        Cancelled or failed, it leaves nothing: it ends when the container is gone, or the engine too busy for that.

        Raises:
            StartFailed: The container can't be created, with the cause.
            RuntimeUnavailable: The engine does not answer.
        """
        while (former := self._orders.get(_key(spec))) is not None:
            await self._drop(former)
        order = self._orders[_key(spec)] = _Order(spec)
        try:
            await self._maker.fetch(spec, _to_nobody)
            if order.is_over.is_set():
                return
            order.creation = self._maker.own(self._create(spec))
            await asyncio.shield(order.creation)
            await order.is_over.wait()
        finally:
            await self._drop(order)

    async def take(self, spec: InstanceSpec) -> str | None:
        """Hand over the container that was created from such a spec, as it was created; one from another is removed.

        Once it has returned there is none any more, and none will come.

        Raises:
            RuntimeUnavailable: The engine does not answer.
        """
        while (order := self._orders.get(_key(spec))) is not None:
            container = await self._made(order, spec)
            if container is not None and not order.is_over.is_set():
                self._forget(order)
                return container
            await self._drop(order)
        return None

    async def _create(self, spec: InstanceSpec) -> str:
        try:
            return await self._maker.create(spec)
        except NameTaken as taken:
            raise StartFailed(f"a container named {taken} exists already") from taken

    async def _made(self, order: _Order, spec: InstanceSpec) -> str | None:
        """The container of an order, if it can be that of a spec."""
        if order.creation is None or order.is_over.is_set() or not order.is_for(spec):
            return None
        await asyncio.wait({order.creation})
        if order.creation.cancelled() or order.creation.exception() is not None:
            return None
        # Whoever tidies an engine up removes what does not run.
        state = await self._containers.find(order.creation.result())
        return state.id if state is not None and state.status == _UNTOUCHED else None

    async def _drop(self, order: _Order) -> None:
        """Remove what came of an order, unless a start has it; whoever else does so is joined."""
        if self._orders.get(_key(order.spec)) is not order:
            return
        order.is_over.set()
        if order.removal is None:
            order.removal = self._maker.own(self._remove(order))
        await asyncio.wait({order.removal})

    async def _remove(self, order: _Order) -> None:
        try:
            if order.creation is not None:
                await self._maker.discard(await order.creation)
        except CannotServe:
            pass  # there is nothing to remove
        finally:
            self._forget(order)

    def _forget(self, order: _Order) -> None:
        if self._orders.get(_key(order.spec)) is order:
            del self._orders[_key(order.spec)]
        order.is_over.set()


def _to_nobody(words: str) -> None:  # the start tells people, if it has to wait for the same
    pass


def _key(spec: InstanceSpec) -> str:
    return replica_key(spec.service, spec.replica)
