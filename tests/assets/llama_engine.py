"""The inference server of the tests' image: llama.cpp's own HTTP server, run as a container's first process."""

import argparse
import os
import signal

import xllamacpp


def main() -> None:
    """Serve one model until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--alias", required=True)
    options = parser.parse_args()
    # Blocked before the server's threads exist: a first process has no default handlers to rely on.
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.model_alias = {options.alias}
    params.hostnames = ["0.0.0.0"]
    params.port = options.port
    # One thread: engines that share a machine with as many threads as it has cores spin in each other's way.
    params.n_ctx, params.n_parallel, params.cpuparams.n_threads = 2048, 2, 1
    params.warmup = params.fit_params = params.ui = False
    params.endpoint_slots = params.endpoint_metrics = True
    params.verbosity = 0
    server = xllamacpp.Server(params)
    print("listening on", server.listening_address, flush=True)
    signal.sigwait(ends)
    os._exit(0)  # the server's own end can wait for ever


if __name__ == "__main__":
    main()
