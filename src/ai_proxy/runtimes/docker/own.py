"""By what ids an engine may know the container that this process, or another of this host, runs in.

Pure but for one reader of the kernel's files. An id found for ourselves is a guess: whether the engine has such a
container, and whether that is us, is `reach`'s to ask.
"""

import re
import socket
from contextlib import suppress
from pathlib import Path

_MOUNTED = re.compile(r"/([0-9a-f]{64})/(?:userdata/)?(?:hostname|hosts|resolv\.conf) /etc/")
_GROUP = re.compile(r"[/-]([0-9a-f]{64})(?:\.scope)?$", re.MULTILINE)
_HOSTNAME = re.compile(r"[0-9a-f]{12}")


def own_ids() -> tuple[str, ...]:
    """Look for the ids of the container that this process runs in; none on a host of its own."""
    return ids_in(_read("/proc/self/mountinfo"), _read("/proc/self/cgroup"), socket.gethostname())


def is_within(pid: int, container: str) -> bool:
    """Whether a process of this host runs in a container; a pid alone does not tell on whose host it is one."""
    return container in ids_in(_read(f"/proc/{pid}/mountinfo"), _read(f"/proc/{pid}/cgroup"), "")


def ids_in(mountinfo: str, cgroup: str, hostname: str) -> tuple[str, ...]:
    """Find container ids in what the kernel says of a process, the surest first.

    Other containers' mounts show on a host too, but never below its own `/etc`.

    Args:
        mountinfo: Its mounts.
        cgroup: Its control groups.
        hostname: Its host's name, which is the beginning of the id unless somebody chose another.

    Example:
        >>> ids_in("1 2 0:1 /lib/docker/containers/" + "ab" * 32 + "/hosts /etc/hosts rw", "", "web")[0][:6]
        'ababab'
        >>> ids_in("", "0::/", "5c0d3a9b1e2f"), ids_in("", "0::/user.slice", "desk")
        (('5c0d3a9b1e2f',), ())
    """
    found = [*_MOUNTED.findall(mountinfo), *_GROUP.findall(cgroup)]
    if _HOSTNAME.fullmatch(hostname):
        found.append(hostname)
    return tuple(dict.fromkeys(found))


def _read(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text("utf-8", "replace")
    return ""
