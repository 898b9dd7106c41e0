"""Where a language model is asked, as the environment names it. Apart from the client, which a run without one need not load."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from curate.errors import SpecError
from curate.specs.workflow import Rephrase


@dataclass(frozen=True)
class Endpoint:
    """Where to ask. The key shows in no repr."""

    base_url: str
    key: str = field(default="", repr=False)


def endpoint(options: Rephrase) -> Endpoint | None:
    """Return the endpoint that the environment names, None where it names none. Raises SpecError when it is no address."""
    address = os.environ.get(options.base_url_env, "").strip().rstrip("/")
    if not address:
        return None
    parts = urlsplit(address)
    hint = "it should look like http://127.0.0.1:8000/v1"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SpecError("is not an http address", where=f"environment variable {options.base_url_env}", hint=hint)
    if parts.username or parts.password:
        raise SpecError(
            "holds a user or password", where=f"environment variable {options.base_url_env}", hint=f"put the key into {options.api_key_env}"
        )
    return Endpoint(address, os.environ.get(options.api_key_env, "").strip())
