"""What is measured, of the devices and of lives, and what it changes in the books.

Pure. Memory that others use shrinks the room; a replica that holds more than it was given is charged what it holds.
"""

from collections.abc import Mapping
from dataclasses import replace

from ai_proxy.scheduler.figures import Figures
from ai_proxy.scheduler.measured import Measured
from ai_proxy.scheduler.state import SchedulerState, ServiceState
from ai_proxy.services.machine import State

START_S = 3.0
READ_MB_S = 1500.0
"""A load as long as none was measured: the engine's own start, and its weights from a disk of this speed."""

UNKNOWN_MB = 8000
"""What is assumed of a service that says nothing of its memory and was never measured, in MiB."""


def measure(state: SchedulerState, measured: Measured) -> None:
    """Take what the devices say: what is measured of replicas is charged to them, the rest is others' use."""
    ledger = state.ledger
    # Who holds a lease may not have told which processes use it: then it is taken to use all of it.
    leases = {key for key, replica in state.replicas.items() if replica.service.spec.lease} - measured.held_mb.keys()
    measured = replace(measured, unknown=measured.unknown | leases)
    for device in ledger.devices:
        for holder in tuple(ledger.holders_on(device.uuid)):
            ledger.charge(holder, device.uuid, measured.held_mb.get(holder, {}).get(device.uuid, 0))
        started = {
            holder: charged_mb
            for holder, charged_mb in ledger.holders_on(device.uuid).items()
            if (replica := state.replicas.get(holder)) is not None and replica.state is not State.STARTING
        }
        # Of one that can't be asked the books are all there is.
        ledger.measure(device.uuid, measured.foreign_mb(device.uuid, started) or 0)
    state.lost = measured.lost


def leave_behind(state: SchedulerState, leftovers: Mapping[str, int]) -> None:
    """What a replica that is gone still holds is the others' use, until the devices say that it is free."""
    for device in state.ledger.devices:
        if left_mb := leftovers.get(device.uuid):
            state.ledger.measure(device.uuid, state.ledger.foreign_mb(device) + left_mb)


def recall(state: SchedulerState, service: ServiceState, figures: Figures) -> None:
    """Go by what was measured of a service from now on."""
    service.figures = figures
    weigh(state, service)


def weigh(state: SchedulerState, service: ServiceState) -> None:
    """Tell the estimates what a service takes to load, and what room it holds."""
    demand = service.spec.demand
    per_gpu_mb = demand.vram_mb or service.figures.peak_vram_mb or UNKNOWN_MB
    size_mb = per_gpu_mb * demand.gpus or demand.memory_mb or 1
    load_s = service.figures.load_s or START_S + size_mb / READ_MB_S
    state.estimates.configure(service.id, reload_s=load_s, size_mb=size_mb, weight=service.spec.weight)
