"""Where models on a network are asked, as the environment names it. Apart from the clients, which a run without an endpoint need not load."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from curate.errors import SpecError
from curate.specs.workflow import Rephrase, Semantic


@dataclass(frozen=True)
class Endpoint:
    """Where to ask. The key shows in no repr."""

    base_url: str
    key: str = field(default="", repr=False)


def endpoint(options: Rephrase | Semantic) -> Endpoint | None:
    """Return the endpoint that the environment names, None where it names none. Raises SpecError when it is no address, or the key none."""
    address = os.environ.get(options.base_url_env, "").strip().rstrip("/")
    if not address:
        return None
    where = f"environment variable {options.base_url_env}"
    parts = _parts(address)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise SpecError("is not an http address", where=where, hint="it should look like http://127.0.0.1:8000/v1")
    if parts.username or parts.password:
        raise SpecError("holds a user or password", where=where, hint=f"put the key into {options.api_key_env}")
    if parts.query or parts.fragment:
        raise SpecError("holds a ? or #, after which no path can follow", where=where, hint="it should end in /v1")
    key = os.environ.get(options.api_key_env, "").strip()
    if not (key.isascii() and key.isprintable()):
        what = "holds characters that cannot stand in a key"  # the key itself is shown nowhere
        raise SpecError(what, where=f"environment variable {options.api_key_env}", hint="copy the key again: letters, digits and signs of ASCII")
    return Endpoint(address, key)


def _parts(address: str) -> SplitResult | None:
    """Return the parts of an address; None where it is none for the client that will use it."""
    import httpx

    try:
        httpx.URL(address)
        parts = urlsplit(address)
        (parts.hostname or "").encode("idna")  # as the socket will do
        return parts if parts.port != 0 else None
    except (ValueError, httpx.InvalidURL):
        return None
