"""The parent of a process replica: it sees to it that no engine outlives the proxy.

Run by path as a program of its own (`python -I -S guard.py GRACE_S COMMAND…`), so it knows nothing of the package and
imports only the standard library. Its three descriptors are its whole interface:

    0  the lifeline: only the proxy holds the other end. A line with a number orders an end with that many seconds of
       grace; EOF, the proxy's death, orders one with GRACE_S.
    1  reports to the proxy: `started PID`, or `failed ERRNO`; last `exited CODE` or `signaled NUMBER`.
    2  the output of the engine and all its descendants.

The engine leads a session of its own. Descendants that lose their parent come to the guard (it is their subreaper),
so "all of them" is exact, daemons included; it ends only when none is left.
"""

import contextlib
import os
import select
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_STRAGGLER_GRACE_S = 2.0
_KILL_AGAIN_S = 0.05
_PF_EXITING = 0x4


class Stat:
    """One process in `/proc`: its parent, its session, when it began (clock ticks since boot), and whether it runs.

    From the first step of its end on it is ending, and runs until everything that it held is given back.
    """

    __slots__ = ("is_ending", "is_running", "parent", "pid", "session", "started")

    def __init__(self, pid: int) -> None:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib costs 10 ms of start-up
            # The second field is the program's name, which may hold anything, `) ` included.
            fields = file.read().rpartition(b") ")[2].split()
        self.pid = pid
        self.is_running = fields[0] not in b"ZX"
        self.is_ending = bool(int(fields[6]) & _PF_EXITING) or not self.is_running
        self.parent = int(fields[1])
        self.session = int(fields[3])
        self.started = int(fields[19])


def processes() -> list[Stat]:
    """List all processes; none where there is no `/proc`."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir("/proc"):  # noqa: PTH208 - as above
            if name.isdigit():
                with contextlib.suppress(OSError, IndexError):  # it ended meanwhile
                    found.append(Stat(int(name)))
    return found


def descendants(root: int) -> list[int]:
    """List the pids below `root`, in no order."""
    children: dict[int, list[int]] = {}
    for process in processes():
        children.setdefault(process.parent, []).append(process.pid)
    found: list[int] = []
    todo = [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process; where the system has no such call, the engine's group must do."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes  # noqa: PLC0415 - only the guard pays for it, not who imports this module

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


class Guard:
    """Runs one engine until neither it nor a descendant is left."""

    def __init__(self, command: list[str], grace_s: float) -> None:
        self._command = command
        self._grace_s = grace_s
        # While the engine runs.
        self._engine = 0
        self._lifeline: int | None = 0
        self._wakeup = -1
        # Once it ends.
        self._status: int | None = None
        self._kill_at: float | None = None

    def __repr__(self) -> str:
        return f"Guard(engine={self._engine}, kill_at={self._kill_at}, status={self._status})"

    def run(self) -> int:
        """Start the engine, wait for the last of its descendants and report; returns the exit status."""
        prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._listen_for_signals()
        error = self._start()
        if error:
            report(f"failed {error}")
            return 127
        report(f"started {self._engine}")
        while self._reap():
            self._wait()
        code = os.waitstatus_to_exitcode(self._status or 0)
        report(f"exited {code}" if code >= 0 else f"signaled {-code}")
        return code if code >= 0 else 128 - code

    def _listen_for_signals(self) -> None:
        self._wakeup, write = os.pipe()
        os.set_blocking(self._wakeup, False)
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)

    def _start(self) -> int:
        """Fork and exec the engine; returns the errno of a failure, or 0."""
        read, write = os.pipe()  # closed by a successful exec
        me = os.getpid()
        self._engine = os.fork()
        if not self._engine:
            self._become_the_engine(write, me)
        os.close(write)
        with os.fdopen(read, "rb") as answer:
            return int(answer.read() or 0)

    def _become_the_engine(self, failure: int, guard: int) -> None:
        try:
            os.setsid()
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != guard:  # it died before the line above
                os._exit(1)
            for number in signal.valid_signals():
                # Python ignores some, a shell's background job others; exec would keep that.
                if signal.getsignal(number) is signal.SIG_IGN:
                    signal.signal(number, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(2, 1)
            os.execvp(self._command[0], self._command)  # noqa: S606 - it runs what the config says, without a shell
        except OSError as error:
            os.write(failure, str(error.errno).encode())
        finally:
            os._exit(127)

    def _reap(self) -> bool:
        """Take the status of everyone who ended; False when no one is left."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return True
                if pid == self._engine:
                    self._status = status
                    self._end(min(self._grace_s, _STRAGGLER_GRACE_S))
        except ChildProcessError:
            return False

    def _wait(self) -> None:
        """Sleep until a child ends, an order comes or the grace is over; act on the latter two."""
        poll = select.poll()
        for descriptor in (self._lifeline, self._wakeup):
            if descriptor is not None:
                poll.register(descriptor, select.POLLIN)
        left_s = None if self._kill_at is None else max(0.0, self._kill_at - time.monotonic())
        ready = {descriptor for descriptor, _ in poll.poll(None if left_s is None else left_s * 1000)}
        if self._lifeline in ready:
            self._read_order()
        if self._wakeup in ready:
            numbers = set(os.read(self._wakeup, 4096))
            if numbers - {signal.SIGCHLD}:
                self._end(self._grace_s)
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            self._signal(signal.SIGKILL)
            self._kill_at = time.monotonic() + _KILL_AGAIN_S  # who was forked meanwhile

    def _read_order(self) -> None:
        order = os.read(0, 4096)
        if order:
            self._end(min(float(line) for line in order.split()))
        else:
            self._lifeline = None
            self._end(self._grace_s)

    def _end(self, grace_s: float) -> None:
        """Ask everyone to end, and set the time after which they are killed; a later order can only shorten it.

        Once the engine has ended everyone is asked again, for it may have forked after it was asked.
        """
        kill_at = time.monotonic() + grace_s
        if self._kill_at is None or self._status is not None:
            self._signal(signal.SIGTERM)
        self._kill_at = kill_at if self._kill_at is None else min(self._kill_at, kill_at)

    def _signal(self, number: int) -> None:
        for pid in descendants(os.getpid()) or [-self._engine]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def report(line: str) -> None:
    """Tell the proxy, if it still lives."""
    with contextlib.suppress(OSError):
        os.write(1, line.encode() + b"\n")


if __name__ == "__main__":
    sys.exit(Guard(sys.argv[2:], float(sys.argv[1])).run())
