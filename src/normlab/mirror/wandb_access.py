"""Access to W&B's server: is there a key, and does it answer? Imports neither torch nor Lightning."""

from __future__ import annotations

import http.client
import netrc
import os
import ssl
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlparse

from normlab.config.schema import InputError, WandbConfig

OFFLINE = ("offline", "disabled", "dryrun")  # values of WANDB_MODE
PROBE = 5.0  # seconds in which a server that can be reached answers


def is_online(wandb: WandbConfig) -> bool:
    """Online if a key is configured, by environment or netrc, and offline is not requested; W&B never prompts.

    Raises:
        InputError: online is requested, but there is no key.
    """
    if os.environ.get("WANDB_MODE") in OFFLINE:
        return False
    has_key = bool(os.environ.get("WANDB_API_KEY")) or _has_netrc_key()
    if wandb.mode == "online" and not has_key:
        raise InputError("logger.wandb.mode=online needs an API key: run `wandb login`, or use mode=auto")
    return has_key and wandb.mode != "offline"


def _has_netrc_key() -> bool:
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(server()) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def server() -> str:
    """The host to which W&B's client connects."""
    return urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""


def unreachable(address: str, seconds: float) -> str:
    """Why the server can't be reached, in a few words; empty if it answers. W&B's own client would try for minutes."""
    host = urlparse(address).netloc
    try:
        with urllib.request.urlopen(address, timeout=seconds):
            return ""
    except urllib.error.HTTPError as error:
        return f"{host} answers {error.code}" if error.code >= 500 else ""
    except urllib.error.URLError as error:
        # the client, which may know other certificates, checks them itself
        return "" if isinstance(error.reason, ssl.SSLError) else f"{host} can't be reached"
    except (OSError, http.client.HTTPException):
        return f"{host} does not answer"


def check_access(options: WandbConfig) -> None:
    """Check that there is a key and that the server answers.

    Raises:
        InputError: no.
    """
    import wandb as client

    if os.environ.get("WANDB_MODE") in ("offline", "disabled", "dryrun"):
        del os.environ["WANDB_MODE"]  # the mode of logging doesn't apply to uploads
    is_online(options)
    why = unreachable(str(client.setup().settings.base_url), PROBE)
    if why:
        raise InputError(f"W&B: {why}; nothing was uploaded")


def connect(seconds: int) -> Any:
    """W&B's public interface, which gives up after that time."""
    import wandb

    return wandb.Api(timeout=seconds)


def log_record() -> Any:
    """The protobuf message of which W&B's local logs consist."""
    import wandb.proto.wandb_internal_pb2

    messages: Any = wandb.proto.wandb_internal_pb2  # which names its messages as it is imported
    return messages.Record
