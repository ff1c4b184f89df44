"""The demo's inference server: llama.cpp in a Python extension, run as a process of its own.

Started by its path (`python -I …/demo_engine.py --model FILE --port N`), never imported by the proxy: it may know
nothing of ai_proxy, so that it shows what any engine behind the process runtime looks like.
"""

import argparse
import os
import signal
import sys

import xllamacpp

# The model has no chat template of its own and is too small for one: it continues what the last message says.
TEMPLATE = "{%- for message in messages -%}{{ message.content }}\n{%- endfor -%}"


def main() -> None:
    """Serve one model until a signal ends the process."""
    parser = argparse.ArgumentParser(description="Serve one GGUF model over llama.cpp's HTTP API, on the CPU.")
    parser.add_argument("--model", required=True, help="the GGUF file")
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--alias", required=True, help="the name that it answers to")
    options = parser.parse_args()
    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.model_alias = {options.alias}
    params.hostnames = ["127.0.0.1"]
    params.port = options.port
    params.n_ctx = 2048
    params.n_parallel = 2
    params.cpuparams.n_threads = max(1, (os.cpu_count() or 2) // 2)
    params.chat_template = TEMPLATE
    params.warmup = params.fit_params = params.ui = False
    params.endpoint_slots = params.endpoint_metrics = True
    params.verbosity = 0
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        sys.exit(f"the engine did not start: {error}")
    sys.stdout.write(f"listening on {server.listening_address}\n")
    sys.stdout.flush()
    signal.pause()


if __name__ == "__main__":
    main()
