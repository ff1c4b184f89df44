"""The docker runtime: the containers of one proxy on one engine. `runtime.DockerRuntime` drives the other parts."""
