"""Lets `python -m ai_proxy` do what `ai-proxy` does."""

from ai_proxy.cli import main

if __name__ == "__main__":
    main()
