"""What a URL says: its host, its registered domain, whether a list blocks it. No network, no downloaded suffix list.

The registered domain is found with a built-in table of the second-level suffixes that registries really use
(co.uk, com.br, …), not with the Public Suffix List: regional ones (city.tokyo.jp) and private ones (blogspot.com)
come out as if they were domains of their own. It serves to group and to block, not to decide who owns what.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from curate.annotate.columns import strings_of, struct_of
from curate.errors import SpecError

# Labels that stand before a country's code in place of a name; then those that single countries add.
_EVERYWHERE = {"ac", "co", "com", "edu", "gob", "gov", "go", "mil", "ne", "net", "nom", "or", "org", "ltd", "plc", "sch"}
_BY_COUNTRY = {
    "at": "gv priv", "au": "asn id", "br": "adv agr app art blog dev eco emp eng etc flog ind inf jor jus leg log med mus radio tur tv wiki",
    "ca": "gc", "fr": "asso gouv", "hu": "info priv sport", "id": "web my desa biz", "il": "k12 muni", "in": "firm gen ind nic res",
    "jp": "ad ed gr lg", "kr": "re pe", "nz": "geek gen govt iwi kiwi maori school", "pl": "art biz info gmina sklep waw",
    "ru": "msk spb", "th": "in mi", "tr": "av bbs bel biz dr gen info k12 kep name pol tel tv web", "tw": "game idv club",
    "ua": "in kiev kyiv lviv od dp kh", "uk": "me nhs police", "us": "k12", "ve": "web info", "vn": "info name pro health",
    "za": "law web nom school",
}  # fmt: skip
# These sell the second level itself: go.de and co.it may be sites.
_ALONE = {"de", "nl", "be", "ch", "dk", "se", "no", "fi", "cz", "sk", "eu", "io", "tv", "me", "ai", "fm", "gg", "to", "ly", "it"}
_HOST = re.compile(r"^[^\s/\\@:\[\]]+$")
_LISTED_HOST = re.compile(r"[\w-]+(?:\.[\w-]+)*")
_MAX_CHARACTERS = 4096


def annotate(batch: pa.RecordBatch, *, blocklist: Path | None = None, words: Path | None = None) -> pa.StructArray:
    """Read the parts of each URL, and look it up.

    `blocklist` is a file with one host, domain or URL prefix (with its path, in its case) per line: a host blocks what is
    below it too, with or without `*.` before it. Lines of a hosts file (`0.0.0.0 spam.example`) are taken as well.
    `words` is a file with one word per line: words are compared with the runs of letters of the URL. In both
    files empty lines and lines that start with # do not count.

    Fields:
        host: lower-case host name, without port; null where there is no URL with a host
        domain: the registered domain, such as example.co.uk; null for IP addresses
        blocked: whether the block list has the URL's host, a domain above it, or a prefix of it; false without a list
        words: number of different listed words that occur in the URL; 0 without a list

    Rules:
        blocked_url    site.blocked
        suspect_url    site.words >= 2

    Raises SpecError when a list cannot be read, and for a line of a block list that can match no URL.
    """
    hosts, prefixes = _blocklist(blocklist, blocklist.stat().st_mtime_ns) if blocklist else (frozenset(), frozenset())
    listed = _word_list(words, words.stat().st_mtime_ns) if words else frozenset()
    rows = []
    for url in strings_of(batch, "url"):
        host, path = parts_of(url or "")
        blocked = bool(host) and (any(above in hosts for above in _above(host)) or _has_prefix(host, path, prefixes))
        found = len(listed.intersection(re.findall(r"[^\W\d_]+", unquote((url or "")[:_MAX_CHARACTERS]).lower()))) if listed else 0
        rows.append((host or None, registered_domain(host) if host else None, blocked, found))
    columns: Any = list(zip(*rows, strict=True)) or [(), (), (), ()]
    kinds = {"host": pa.string(), "domain": pa.string(), "blocked": pa.bool_(), "words": pa.int64()}
    return struct_of({name: pa.array(column, kind) for (name, kind), column in zip(kinds.items(), columns, strict=True)})


def parts_of(url: str) -> tuple[str, str]:
    """Return (host, path with query) of a URL; ("", "") if it has no host or is broken."""
    url = url[:_MAX_CHARACTERS].strip()
    try:
        split = urlsplit(url if "://" in url else "//" + url.lstrip("/"))
        host = (split.hostname or "").rstrip(".").lower()
    except ValueError:
        return "", ""
    if not (_HOST.match(host) or _is_address(host)) or ("://" not in url and "." not in host):
        return "", ""
    return host, split.path + ("?" + split.query if split.query else "")


def registered_domain(host: str) -> str | None:
    """Return the part of a host that somebody registered; None for IP addresses and single labels."""
    labels = host.split(".")
    if len(labels) < 2 or "" in labels or _is_address(host):
        return None
    country, second = labels[-1], labels[-2]
    suffix = 1
    if len(country) == 2 and country not in _ALONE and (second in _EVERYWHERE or second in _BY_COUNTRY.get(country, "").split()):
        suffix = 2
    return ".".join(labels[-suffix - 1 :]) if len(labels) > suffix else None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _above(host: str) -> list[str]:
    """Return the host and every domain above it."""
    labels = host.split(".")
    return [".".join(labels[k:]) for k in range(len(labels))]


def _has_prefix(host: str, path: str, prefixes: frozenset[str]) -> bool:
    """Say whether a prefix of the URL is listed, cut at slashes: host/a blocks host/a and host/a/b, not host/ab."""
    if not prefixes:
        return False
    pieces = path.partition("?")[0].strip("/").split("/")
    tails = ["/".join(pieces[: k + 1]) for k in range(len(pieces))]
    return any(f"{host}/{tail}" in prefixes for tail in tails if tail)


def _listed_lines(path: Path) -> list[tuple[int, str]]:
    """Return (line number, line) of those that are not empty and no comment."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot be read: {error}", where=str(path)) from error
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip() and not line.lstrip().startswith("#")]


@functools.lru_cache(maxsize=8)
def _blocklist(path: Path, changed: int) -> tuple[frozenset[str], frozenset[str]]:
    """Return (hosts, URL prefixes) of a file; `changed` is part of the cache's key only."""
    hosts, prefixes = set(), set()
    for number, line in _listed_lines(path):
        first, *named = re.split(r"\s#", line)[0].split()
        for entry in named if named and _is_address(first) else [" ".join([first, *named])]:
            host, tail = _entry(entry)
            if not host:
                hint = "one host, domain or URL with a path per line, such as spam.example or site.example/spam"
                raise SpecError(f"'{line[:200]}' can match no URL", where=f"{path}:{number}", hint=hint)
            if tail:
                prefixes.add(f"{host}/{tail}")
            else:
                hosts.add(host)
    return frozenset(hosts), frozenset(prefixes)


def _entry(entry: str) -> tuple[str, str]:
    """Return (host in lower case, path without slashes around it) of an entry of a block list; ("", "") if it can match nothing."""
    bare = entry.strip("[]").lower()
    if _is_address(bare):
        return bare, ""
    host, tail = parts_of(re.sub(r"^\*?\.", "", entry))
    path, query, _ = tail.partition("?")
    if not host and _LISTED_HOST.fullmatch(bare.strip("/.")):
        return bare.strip("/."), ""  # a bare top-level domain
    if not (_LISTED_HOST.fullmatch(host) or _is_address(host)) or "*" in path or (query and not path.strip("/")):
        return "", ""
    return host, path.strip("/")


@functools.lru_cache(maxsize=8)
def _word_list(path: Path, changed: int) -> frozenset[str]:
    return frozenset(line.lower() for _, line in _listed_lines(path))
