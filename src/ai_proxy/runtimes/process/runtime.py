"""Replicas as processes of this machine: a service with a command and no image.

Owns which command runs on which port with which devices, and the list of what runs. Each replica has a guard
(`guard.py`), so none outlives the proxy; what could is found by its record at the next boot (`orphans.py`).
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

from loguru import logger

from ai_proxy.config.models import ServiceConfig
from ai_proxy.config.substitute import fill
from ai_proxy.devices import Placement, Vendor
from ai_proxy.engines.registry import port_of
from ai_proxy.errors import StartFailed
from ai_proxy.runtimes.base import Exit, Instance, InstanceSpec, Progress
from ai_proxy.runtimes.living import living
from ai_proxy.runtimes.process.guarded import MARGIN_S, GuardedProcess
from ai_proxy.runtimes.process.orphans import Record, Records
from ai_proxy.runtimes.process.ports import free_port, is_free
from ai_proxy.runtimes.process.ring import Lines

_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class _Replica:
    instance: Instance
    process: GuardedProcess
    grace_s: float


class ProcessRuntime:
    """Runs replicas as local processes.

    Args:
        state_dir: Where the records of running replicas are kept.
        environ: What every engine's environment starts from, mostly the proxy's own.
        margin_s: How long after the grace a replica must be gone before its guard counts as hanging.
    """

    def __init__(self, state_dir: Path, environ: Mapping[str, str], *, margin_s: float = MARGIN_S) -> None:
        self._environ = environ
        self._margin_s = margin_s
        self._records = Records(state_dir / "processes")
        # By instance id; an ended one stays until its successor starts, since its exit and output are still asked for.
        self._replicas: dict[str, _Replica] = {}
        self._starting_ports: set[int] = set()
        self._is_closed = False

    def __repr__(self) -> str:
        running = [replica.process for replica in self._replicas.values() if not replica.process.has_ended]
        return f"ProcessRuntime(running={running})"

    async def prepare(self, config: ServiceConfig, progress: Progress) -> None:
        """Do nothing: a program that is to be started is there."""

    async def start(self, spec: InstanceSpec, progress: Progress) -> Instance:
        """Start the command under a guard. A command that says `{port}` gets a free one.

        Raises:
            StartFailed: The program is missing or can't be run, its directory is missing, or its port is taken.
        """
        if self._is_closed:
            raise StartFailed("the proxy is ending", service=spec.service)
        port = self._choose_port(spec.config)
        self._starting_ports.add(port)
        try:
            progress(f"starting process on port {port}")
            return await self._launch(spec, port)
        except StartFailed as error:
            error.service = spec.service
            raise
        finally:
            self._starting_ports.discard(port)

    async def stop(self, instance: Instance, grace_s: float) -> None:
        """End the replica and all its descendants: SIGTERM, `grace_s`, SIGKILL; returns when they are gone.

        Raises:
            RuntimeUnavailable: A process does not end even when killed.
        """
        replica = self._find(instance)
        if replica is not None and not replica.process.has_ended:
            await replica.process.stop(grace_s, self._margin_s)

    async def wait(self, instance: Instance) -> Exit:
        """Wait until the replica and all its descendants are gone."""
        replica = self._find(instance)
        if replica is None:
            return Exit()
        ended = await replica.process.ended()
        if ended.code and not is_free(instance.port):
            hint = f"port {instance.port} is in use by another program"
            return replace(ended, log_tail=(*ended.log_tail, hint))
        return ended

    async def adopt(self) -> Sequence[Instance]:
        """Kill what a former life could not end itself; nothing of it is worth keeping."""
        killed = await asyncio.to_thread(self._records.clean)
        if killed:
            logger.warning("killed {} processes that a former life of the proxy left running: {}", len(killed), killed)
        return ()

    async def logs(self, instance: Instance, *, follow: bool) -> AsyncGenerator[str, None]:
        """Yield the replica's output line by line, also after its end; who follows too slowly misses the oldest."""
        replica = self._find(instance)
        if replica is None:
            return
        process = replica.process
        lines = Lines(process.ring)
        while True:
            is_last = process.has_ended or not follow
            for line in lines.take():
                yield line
            if is_last:
                break
            await process.news(lines.position)
        for line in lines.rest():
            yield line

    async def pids(self, instance: Instance) -> frozenset[int]:
        """List the engine and all its descendants."""
        replica = self._find(instance)
        return frozenset() if replica is None else await asyncio.to_thread(replica.process.pids)

    async def aclose(self) -> None:
        """Stop everything, each with its own grace: processes can't outlive the proxy."""
        self._is_closed = True
        stops = [self.stop(replica.instance, replica.grace_s) for replica in self._replicas.values()]
        for failure in await asyncio.gather(*stops, return_exceptions=True):
            if isinstance(failure, BaseException):
                logger.error("a process could not be stopped: {}", failure)

    def _find(self, instance: Instance) -> _Replica | None:
        return self._replicas.get(instance.id)

    def _choose_port(self, config: ServiceConfig) -> int:
        ours = self._starting_ports | self._ports_in_use()
        if any("{port}" in text for text in (*_command(config), *config.environment.values())):
            return free_port(avoid=ours)
        port = port_of(config)
        # One of ours has it before it listens there.
        if port in ours or not is_free(port):
            owner = "another replica" if port in ours else "another program"
            raise StartFailed(f"port {port} is in use by {owner}; write {{port}} in `command` to get a free one")
        return port

    def _ports_in_use(self) -> set[int]:
        return {replica.instance.port for replica in self._replicas.values() if not replica.process.has_ended}

    async def _launch(self, spec: InstanceSpec, port: int) -> Instance:
        config, values = spec.config, spec.placeholders(port)
        _check_directory(config.working_dir)
        token = f"{spec.service}.{spec.replica}.{uuid4().hex}"
        self._records.write(Record(token))  # before it exists: a proxy that dies between the two must find it
        try:
            process = await GuardedProcess.launch(
                [fill(word, values) for word in _command(config)],
                token=token,
                environ=self._environment(spec, values),
                cwd=config.working_dir,
                grace_s=config.stop_grace_period,
            )
        except BaseException:
            self._records.remove(token)
            raise
        self._records.write(process.record)
        process.when_ended(lambda: self._records.remove(token))
        instance = Instance(
            id=str(process.pid),
            service=spec.service,
            host=_HOST,
            port=port,
            placement=spec.placement,
            spec_hash=spec.spec_hash,
            replica=spec.replica,
            is_alive=living(process.pid),
        )
        self._remember(_Replica(instance, process, config.stop_grace_period))
        if self._is_closed:
            await process.stop(config.stop_grace_period)
            raise StartFailed("the proxy is ending")
        return instance

    def _remember(self, new: _Replica) -> None:
        key = new.instance.service, new.instance.replica
        for old in list(self._replicas.values()):
            if old.process.has_ended and (old.instance.service, old.instance.replica) == key:
                del self._replicas[old.instance.id]
        self._replicas[new.instance.id] = new

    def _environment(self, spec: InstanceSpec, values: Mapping[str, str | int | float]) -> dict[str, str]:
        own = {name: fill(value, values) for name, value in spec.config.environment.items()}
        return {**self._environ, **own, **device_environment(spec.placement)}


def _command(config: ServiceConfig) -> tuple[str, ...]:
    return (*(config.command or ()), *config.args)


def _check_directory(path: str | None) -> None:
    if path is not None and not Path(path).is_dir():
        raise StartFailed(f"working_dir {path!r} is not a directory")


def device_environment(placement: Placement) -> dict[str, str]:
    """Show an engine the GPUs it was given and no others; none at all where it was given none.

    Example:
        >>> from ai_proxy.devices import Device
        >>> device_environment(Placement((Device("0", "GPU-a", 24576), Device("1", "GPU-b", 24576))))
        ... # doctest: +NORMALIZE_WHITESPACE
        {'CUDA_DEVICE_ORDER': 'PCI_BUS_ID', 'CUDA_VISIBLE_DEVICES': 'GPU-a,GPU-b',
        'HIP_VISIBLE_DEVICES': '', 'ROCR_VISIBLE_DEVICES': ''}
        >>> device_environment(Placement((Device("amd1", "GPU-7c", 24560, vendor=Vendor.AMD),)))
        ... # doctest: +NORMALIZE_WHITESPACE
        {'CUDA_DEVICE_ORDER': 'PCI_BUS_ID', 'CUDA_VISIBLE_DEVICES': '0', 'HIP_VISIBLE_DEVICES': '0',
        'ROCR_VISIBLE_DEVICES': 'GPU-7c'}
    """
    amd = [device.handle for device in placement.devices if device.vendor is Vendor.AMD]
    # HIP reads CUDA's variable too, and counts among the GPUs that ROCR leaves visible.
    hip = ",".join(str(index) for index in range(len(amd)))
    nvidia = ",".join(device.handle for device in placement.devices if device.vendor is Vendor.NVIDIA)
    return {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": nvidia or hip,
        "HIP_VISIBLE_DEVICES": hip,
        "ROCR_VISIBLE_DEVICES": ",".join(amd),
    }
