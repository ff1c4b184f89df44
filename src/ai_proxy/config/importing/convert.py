"""Which tool a file was made for, and its draft. Pure."""

from ai_proxy.config.document import Findings, read
from ai_proxy.config.faults import ConfigError, Fault
from ai_proxy.config.importing import jsonc, large_model_proxy, llama_swap
from ai_proxy.config.importing.draft import Draft

_FIX = "give a llama-swap config (YAML with `models`) or one of large-model-proxy (JSONC with `Services`)"


def convert(text: str, file: str) -> Draft:
    """Make a draft of another tool's config.

    Args:
        text: The config.
        file: Its name, for faults.

    Raises:
        ConfigError: It can't be read, or is no such config.
    """
    try:
        document = jsonc.parse(text)
    except ValueError as error:
        if text.lstrip().startswith(("{", "//", "/*")):
            raise ConfigError([Fault(file, getattr(error, "lineno", 0), "", f"not JSON: {error}", _FIX)]) from error
    else:
        if isinstance(document, dict) and any(key.lower() == "services" for key in document):
            return large_model_proxy.convert(document)
    findings = Findings(file)
    root = read(text, findings)
    if findings.faults:
        raise ConfigError(findings.faults)
    if root.get("models") is not None:
        return llama_swap.convert(root)
    if root.get("services") is not None:
        raise ConfigError([Fault(file, root.line, "", "this is one of ours already", "run ai-proxy check")])
    raise ConfigError([Fault(file, root.line, "", "neither llama-swap's nor large-model-proxy's", _FIX)])
