"""Where things are: the config file, the proxy's name, its state directory.

Looks whether files exist and reads nothing else.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from ai_proxy.config.faults import ConfigError, Fault
from ai_proxy.config.models import Config

FILE_NAME = "ai-proxy.yaml"


def find_config(explicit: Path | None, environ: Mapping[str, str], cwd: Path) -> Path:
    """Find the config file: what was said, else `AI_PROXY_CONFIG`, else the first that exists.

    The places are `ai-proxy.yaml` in `cwd`, in `$XDG_CONFIG_HOME/ai-proxy/` and in `/etc/ai-proxy/`.

    Args:
        explicit: What the command line says, if it does; not checked, so that `load` reports what is wrong with it.
        environ: The environment.
        cwd: The directory to look in first.

    Raises:
        ConfigError: There is none.
    """
    if explicit is not None:
        return explicit
    if named := environ.get("AI_PROXY_CONFIG"):
        return Path(named)
    places = [cwd / FILE_NAME, _config_home(environ) / "ai-proxy" / FILE_NAME, Path("/etc/ai-proxy") / FILE_NAME]
    for place in places:
        if place.is_file():
            return place
    looked = ", ".join(str(place) for place in places)
    fix = "give --config FILE, set AI_PROXY_CONFIG, or create one of them"
    raise ConfigError([Fault(FILE_NAME, 0, "", f"no config file found; looked for {looked}", fix)])


def proxy_name(path: Path, config: Config) -> str:
    """The name that this proxy's containers and sockets carry: the config's, else a hash of the file's real path."""
    return config.name or hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]


def state_dir(path: Path, config: Config, environ: Mapping[str, str]) -> Path:
    """Where lock, control socket and learned state live; a relative `state_dir` starts at the config file."""
    if config.state_dir is not None:
        return (path.parent / Path(config.state_dir).expanduser()).absolute()
    home = environ.get("XDG_STATE_HOME")
    base = Path(home) if home and Path(home).is_absolute() else _home(environ) / ".local" / "state"
    return base / "ai-proxy" / proxy_name(path, config)


def _config_home(environ: Mapping[str, str]) -> Path:
    home = environ.get("XDG_CONFIG_HOME")
    # The XDG specification: a relative path there is invalid and ignored.
    return Path(home) if home and Path(home).is_absolute() else _home(environ) / ".config"


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ["HOME"]) if environ.get("HOME") else Path.home()
