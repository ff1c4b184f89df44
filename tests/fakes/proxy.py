"""A proxy's part in a process replica's life, to be killed: starts one replica, says who it is and waits for ever.

python -m tests.fakes.proxy STATE_DIR COMMAND…      prints `replica PID`, then the replica's output
"""

import os
import sys
from pathlib import Path

import uvloop

from ai_proxy.config.models import ServiceConfig
from ai_proxy.devices import Placement
from ai_proxy.runtimes.base import InstanceSpec
from ai_proxy.runtimes.process.runtime import ProcessRuntime


async def main(state_dir: str, *command: str) -> None:
    runtime = ProcessRuntime(Path(state_dir), os.environ)
    config = ServiceConfig(command=command, stop_grace_period=0.2)
    instance = await runtime.start(InstanceSpec("small", config, Placement(), "hash-1"), lambda _: None)
    print("replica", instance.id, flush=True)
    async for line in runtime.logs(instance, follow=True):
        print(line, flush=True)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
