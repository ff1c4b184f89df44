"""One engine under its guard, as the proxy sees it: start, output, end.

Owns the guard process and the lifeline to it. Which command, on which port and with which devices is `runtime.py`'s
business; how a whole tree of processes is ended is the guard's.
"""

import asyncio
import errno
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self, cast

from ai_proxy.errors import RuntimeUnavailable, StartFailed
from ai_proxy.runtimes.base import Exit
from ai_proxy.runtimes.process import guard, orphans
from ai_proxy.runtimes.process.ring import ByteRing

MARGIN_S = 5.0
_LIFELINE = 0
_OUTPUT = 2
_SPAWN_TIMEOUT_S = 10.0
_LAST_OUTPUT_S = 1.0
_TURN_S = 0.05
_TURN_BYTES = 10_000_000
_SIGKILL = 9
_LOST = -1


class GuardedProcess(asyncio.SubprocessProtocol):
    """A running engine, and after its end what is known of it.

    Attributes:
        pid: The engine's, which is its session's and its process group's too.
        ring: Its output.
    """

    def __init__(self, token: str) -> None:
        loop = asyncio.get_running_loop()
        # From the start on.
        self.pid = 0
        self.ring = ByteRing()
        self._record = orphans.Record(token)
        self._transport: asyncio.SubprocessTransport | None = None
        self._started: asyncio.Future[int] = loop.create_future()
        self._oom_kills = oom_kills()
        # While it runs.
        self._reports = b""
        self._news: asyncio.Future[None] | None = None
        self._is_asked = False
        self._turn_ends = 0.0
        self._turn_bytes = 0
        # Once it has ended.
        self._outcome: tuple[str, int] | None = None
        self._ended: asyncio.Future[Exit] = loop.create_future()

    def __repr__(self) -> str:
        state = "ended" if self.has_ended else "ending" if self._is_asked else "running"
        return f"GuardedProcess({self._record.token!r}, pid={self.pid}, {state})"

    @classmethod
    async def launch(
        cls, command: Sequence[str], *, token: str, environ: Mapping[str, str], cwd: str | None, grace_s: float
    ) -> Self:
        """Start a command under a guard of its own; returns once it runs. Cancelled, it leaves nothing behind.

        Args:
            command: Program and arguments; the program is looked up in `environ`'s PATH.
            token: Marks the engine's environment, so that a later life of the proxy knows it.
            environ: The engine's whole environment.
            cwd: Its working directory; None for the proxy's.
            grace_s: From SIGTERM to SIGKILL when the proxy is gone.

        Raises:
            StartFailed: The command can't be run.
        """
        process = cls(token)
        head = (sys.executable, "-I", "-S", guard.__file__, str(grace_s))
        marked = {**environ, orphans.TOKEN_VARIABLE: token}
        loop = asyncio.get_running_loop()
        # A task of its own: cut off half-way, a spawn could not tell whether there is a process to end.
        spawn = asyncio.ensure_future(
            loop.subprocess_exec(lambda: process, *head, *command, env=marked, cwd=cwd, start_new_session=True)
        )
        try:
            async with asyncio.timeout(_SPAWN_TIMEOUT_S):
                await asyncio.shield(spawn)
                failure = await process._started
        except OSError as error:
            await process._give_up(spawn)
            raise StartFailed(f"{command[0]!r} could not be started: {str(error) or 'no answer in time'}") from error
        except asyncio.CancelledError:
            await process._give_up(spawn)
            raise
        if failure:
            await process.ended()
            raise StartFailed(_why(failure, command[0]), log_tail=process.ring.tail())
        return process

    async def _give_up(self, spawn: "asyncio.Future[tuple[asyncio.SubprocessTransport, Self]]") -> None:
        await asyncio.wait([spawn], timeout=_SPAWN_TIMEOUT_S)
        if self._transport is not None:
            await self.stop(0)
        elif spawn.done():
            spawn.exception()

    @property
    def record(self) -> orphans.Record:
        """By which a later life of the proxy knows its processes."""
        return self._record

    @property
    def has_ended(self) -> bool:
        """Nothing of it is left."""
        return self._ended.done()

    def pids(self) -> frozenset[int]:
        """The engine and all its descendants; blocks for a few milliseconds."""
        if self._transport is None or self.has_ended:
            return frozenset()
        return frozenset(guard.descendants(self._transport.get_pid()))

    async def ended(self) -> Exit:
        """Wait until the engine and all its descendants are gone."""
        return await asyncio.shield(self._ended)

    def when_ended(self, callback: Callable[[], None]) -> None:
        """Call back once it has ended, at once if it has."""
        self._ended.add_done_callback(lambda _: callback())

    async def news(self, since: int) -> None:
        """Wait until the ring holds more than `since` bytes in all, or the end."""
        if self.ring.total == since and not self.has_ended:
            if self._news is None:
                self._news = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._news)

    async def stop(self, grace_s: float, margin_s: float = MARGIN_S) -> None:
        """Ask the engine to end, kill it after `grace_s`, and return when everything is gone.

        Args:
            grace_s: From SIGTERM to SIGKILL.
            margin_s: For the guard to have done so; after that it counts as hanging and is killed itself.

        Raises:
            RuntimeUnavailable: It is not gone in spite of all (a process in uninterruptible sleep).
        """
        self._order(f"{grace_s}\n")
        if not await self._ends_within(grace_s + margin_s) and self._transport is not None:
            with suppress(ProcessLookupError):
                self._transport.kill()  # the guard itself hangs; what it leaves is killed in `process_exited`
            if not await self._ends_within(margin_s):
                raise RuntimeUnavailable(f"process {self.pid} was killed and does not end")

    def _pipe(self, fd: int) -> asyncio.Transport | None:
        pipe = self._transport.get_pipe_transport(fd) if self._transport is not None else None
        return cast("asyncio.Transport | None", pipe)

    async def _ends_within(self, seconds: float) -> bool:
        await asyncio.wait([self._ended], timeout=seconds)
        return self._ended.done()

    def _order(self, text: str) -> None:
        self._is_asked = True
        if (lifeline := self._pipe(_LIFELINE)) is not None and not lifeline.is_closing():
            lifeline.write(text.encode())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The guard runs."""
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Output of the engine, or a report of the guard."""
        if fd == _OUTPUT:
            self.ring.write(data)
            self._wake()
            self._curb(len(data))
            return
        *lines, self._reports = (self._reports + data).split(b"\n")
        for line in lines:
            self._take_report(*line.decode().split())

    def _curb(self, size: int) -> None:
        """Let the engine talk as fast as it likes, up to a rate at which reading it would cost all others the loop."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._turn_ends:
            self._turn_ends = loop.time() + _TURN_S
            self._turn_bytes = 0
        self._turn_bytes += size
        output = self._pipe(_OUTPUT)
        if self._turn_bytes >= _TURN_BYTES and output is not None:
            output.pause_reading()
            loop.call_at(self._turn_ends, output.resume_reading)

    def _take_report(self, what: str, number: str) -> None:
        if what == "started":
            self.pid = int(number)
            self._record = orphans.record_of(self._record.token, self.pid)
            self._settle_start(0)
        elif what == "failed":
            self._settle_start(int(number))
            self._outcome = "exited", 127
        else:
            self._outcome = what, int(number)

    def process_exited(self) -> None:
        """The guard has ended; without a report it was killed, and what it guarded may live."""
        if self._outcome is None:
            orphans.kill(self._record, orphaned_now=True)
        self._settle_start(_LOST)
        if (lifeline := self._pipe(_LIFELINE)) is not None:
            lifeline.close()
        # Mostly `connection_lost` comes first, with the last output; a survivor could hold the pipe open for ever.
        asyncio.get_running_loop().call_later(_LAST_OUTPUT_S, self._finish)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the base class's signature
        """The guard has ended and its pipes are drained."""
        self._finish()

    def _settle_start(self, failure: int) -> None:
        if not self._started.done():
            self._started.set_result(failure)

    def _finish(self) -> None:
        if self._ended.done():
            return
        self._ended.set_result(self._exit())
        self._wake()
        if self._transport is not None:
            self._transport.close()

    def _exit(self) -> Exit:
        tail = self.ring.tail()
        if self._outcome is None:  # the guard was killed, and the engine with it
            return Exit(signal=_SIGKILL, log_tail=tail)
        what, number = self._outcome
        if what == "exited":
            return Exit(code=number, log_tail=tail)
        is_oom = number == _SIGKILL and not self._is_asked and oom_kills() > self._oom_kills
        return Exit(signal=number, oom_killed=is_oom, log_tail=tail)

    def _wake(self) -> None:
        if self._news is not None:
            self._news.set_result(None)
            self._news = None


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since boot; 0 where it does not say.

    It does not say whom. An engine killed by SIGKILL that nobody here sent, while the figure rose, is taken for one.
    """
    with suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def _why(failure: int, program: str) -> str:
    match failure:
        case errno.ENOENT:
            return f"{program!r} was not found: install it, or give its full path in `command`"
        case errno.EACCES:
            return f"{program!r} is not executable"
        case errno.ENOEXEC:
            return f"{program!r} is neither a program for this machine nor a script that names its interpreter"
        case _ if failure == _LOST:
            return f"the guard of {program!r} ended before it could start it"
        case _:
            return f"{program!r} can't be run: {os.strerror(failure)}"
