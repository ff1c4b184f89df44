"""The command line: `main` is what `ai-proxy` runs. Each verb parses its words and calls one function."""


def main() -> None:
    """Run the command line of this process."""
    # The entry point stays importable in a blink: the commands come with it only when it is called.
    from ai_proxy.cli.app import run  # noqa: PLC0415

    run()
