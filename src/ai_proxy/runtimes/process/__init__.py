"""The process runtime: local processes under a guard. `runtime.ProcessRuntime` drives the other parts."""
