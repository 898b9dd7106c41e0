"""License, consent and URL: what pages say about themselves, hostile pages included."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curate.annotate import annotate
from curate.annotate.license import recognized
from curate.annotate.site import parts_of, registered_domain
from curate.errors import SpecError


def row(name: str, meta: Any, **columns: str | None) -> dict[str, Any]:
    value = meta if isinstance(meta, str) else json.dumps(meta)
    batch = pa.record_batch({"text": ["x"], "meta": [value], **{k: pa.array([v], pa.string()) for k, v in columns.items()}})
    result: dict[str, Any] = annotate(batch, name)[0].as_py()
    return result


def consent(http: dict[str, Any] | None = None, **html: Any) -> str:
    return str(row("consent", {"http": http or {}, "html": html})["training"])


@pytest.mark.parametrize(
    ("http", "html", "training", "via"),
    [
        ({}, {}, "absent", None),
        ({"x-robots-tag": "noindex, NoAI"}, {}, "denied", "x-robots-tag"),
        ({"x-robots-tag": "somebot: noai"}, {}, "denied", "x-robots-tag"),
        ({"x-robots-tag": ["index", "noai, noimageai"]}, {}, "denied", "x-robots-tag"),
        ({"x-robots-tag": "noimageai"}, {"robots": "index, follow"}, "absent", None),
        ({}, {"robots": "noai"}, "denied", "robots"),
        ({"tdm-reservation": "1"}, {}, "denied", "tdm-reservation"),
        ({}, {"tdm-reservation": "0"}, "allowed", "tdm-reservation"),
        ({"tdm-reservation": "0"}, {"tdm-reservation": "1"}, "denied", "tdm-reservation"),
        ({"content-signal": "search=yes, ai-train=no"}, {}, "denied", "content-signal"),
        ({"content-signal": "ai-train=yes"}, {}, "allowed", "content-signal"),
        ({"content-signal": "ai-train=yes"}, {"robots": "noai"}, "denied", "robots"),
        ({"content-signal": "search=no, ai-input=no"}, {}, "absent", None),
    ],
)
def test_the_most_restrictive_signal_wins(http: dict[str, Any], html: dict[str, Any], training: str, via: str | None) -> None:
    found = row("consent", {"http": http, "html": html})
    assert (found["training"], found["via"]) == (training, via)


def test_indexing_is_another_question() -> None:
    found = row("consent", {"html": {"robots": "noindex"}})
    assert (found["training"], found["indexing"]) == ("absent", "denied")


@pytest.mark.parametrize(
    "meta", ["", "{", "[]", "null", '{"http": 3, "html": [1]}', '{"http": {"x-robots-tag": {"a": 1}}, "html": {"license": "x", "robots": 7}}']
)
@pytest.mark.parametrize("name", ["consent", "license"])
def test_metadata_of_any_shape_is_survived(name: str, meta: str) -> None:
    found = row(name, meta)
    assert found.get("training", "absent") == "absent"
    assert not found.get("conflict", False)


@pytest.mark.parametrize(
    ("claim", "name"),
    [
        ("https://creativecommons.org/licenses/by/4.0/", "CC-BY-4.0"),
        ("http://creativecommons.org/licenses/by-nc-sa/3.0/de/deed.en", "CC-BY-NC-SA-3.0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("https://creativecommons.org/publicdomain/mark/1.0/", "public-domain"),
        ("CC BY-SA 4.0", "CC-BY-SA-4.0"), ("cc-by-nc-nd-2.5", "CC-BY-NC-ND-2.5"), ("CC0", "CC0-1.0"), ("Creative Commons BY 3.0", "CC-BY-3.0"),
        ("https://www.apache.org/licenses/LICENSE-2.0", "Apache-2.0"), ("Apache-2.0", "Apache-2.0"), ("https://opensource.org/licenses/MIT", "MIT"),
        ("MIT", "MIT"), ("https://www.gnu.org/licenses/fdl-1.3.html", "GFDL"), ("GPL-3.0", "GPL"), ("public domain", "public-domain"),
        ("https://example.com/terms", None), ("all rights reserved", None), ("https://mit.edu/about", None), ("", None), ("by", None),
    ],
)  # fmt: skip
def test_licenses_by_url_and_name(claim: str, name: str | None) -> None:
    assert recognized(claim) == name


@pytest.mark.parametrize(
    ("claim", "name"),
    [
        ("CC BY-NonCommercial 4.0", "CC-BY-NC-4.0"), ("CC BY Non-Commercial", "CC-BY-NC"), ("cc-by-non-commercial", "CC-BY-NC"),
        ("CC BY-NoDerivs 3.0", "CC-BY-ND-3.0"), ("CC BY\u2011NC\u2011SA 4.0", "CC-BY-NC-SA-4.0"), ("CC BY\u2013NC", "CC-BY-NC"), ("CC BY/NC", "CC-BY-NC"),
        ("CC BY (NC)", "CC-BY-NC"), ("CC-BY_NC", "CC-BY-NC"), ("CC BY, NC", "CC-BY-NC"), ("CC-BY-4.0+NC", "CC-BY-NC-4.0"), ("CC BY\u00adNC", "CC-BY-NC"),
        ("Creative Commons Attribution-NonCommercial 4.0", "CC-BY-NC-4.0"), ("http://creativecommons.org/licenses/by/nc/4.0", "CC-BY-NC-4.0"),
        ("CC-BY-4.0 AND CC-BY-NC-4.0", None), ("Apache-2.0 WITH Commons-Clause", None), ("MIT AND CC-BY-NC-4.0", None), ("not public domain", None),
        ("BSD-3-Clause-No-Nuclear-License", None), ("BSD-3-Clause-Clear", None), ("CC BY 4.0, no commercial use", None), ("CC BY\u2212NC", None),
        ("CC BY 4.0 unless otherwise noted", None), ("images CC BY 4.0", None), ("CC BY 4.0; all rights reserved", None), ("\xa9 MIT 2020", None),
        *((f"https://creativecommons.org/licenses/by{sign}nc/4.0/", None) for sign in (".", ":", "&", "=", "~", "|", "*", "\u2212", "%252D", "%E2%88%92", "/us.")),
        *((f"https://creativecommons.org/licenses/by{sign}nc/4.0/", "CC-BY-NC-4.0") for sign in ("%2D", "%2d", "%20", "%2C", "%E2%80%91", "/")),
        ("https://creativecommons.org/licenses/by/4.0-nc/", None), ("https://creativecommons.org/licenses/by/2.0/nc-nd/", None),
        ("https://creativecommons.org/licenses/by/2.0/us/nc/", None), ("https://creativecommons.org/licenses/by/4.0.nc", None),
        ("https://notcreativecommons.org/licenses/by/4.0/", None), ("https://not-creativecommons.org/licenses/by/4.0/", None),
        *((f"https://creativecommons.org/licenses/by-nc/4.0/{tail}", "CC-BY-NC-4.0") for tail in ("foo", "88x31.png", "us/foo.html", "”", "&sa=D", "deed/en", "*x")),
        *((f"https://creativecommons.org/licenses/by/4.0/{tail}", None) for tail in ("foo", "*nc", "”nc", "|nc/", "deed.es_419nc", "deed.es_42")),
        *((f"https://creativecommons.org/licenses/by-nc/4.0/{s}https://creativecommons.org/licenses/by/4.0/", n) for s, n in (("|", None), ("#", "CC-BY-NC-4.0"))),
        ("https://creativecommons.org/licenses/by-nd_nc/foo", "CC-BY-NC-ND"), ("https://notcreativecommons.org/licenses/by-nc/4.0/foo", None),
        ("CC BY 4.0 " + " " * 490 + "for schools", None), ("GPL-2.0 WITH Classpath-exception-2.0", "GPL"),
    ],
)  # fmt: skip
def test_what_may_restrict_a_license_is_not_overlooked(claim: str, name: str | None) -> None:
    assert recognized(claim) == name
    assert claims(license=claim)[2] is (False if name else None)


@pytest.mark.parametrize(
    ("claim", "name"),
    [
        ("Creative Commons Attribution-ShareAlike 4.0 International License", "CC-BY-SA-4.0"), ("CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/)", "CC-BY-4.0"),
        ("This work is licensed under a Creative Commons Attribution 4.0 International License.", "CC-BY-4.0"), ("CC BY-SA 3.0 DE", "CC-BY-SA-3.0"),
        ("CC0 1.0 Universal (CC0 1.0) Public Domain Dedication", "CC0-1.0"), ("The MIT License (MIT)", "MIT"), ("https://spdx.org/licenses/MIT.html", "MIT"),
        ("MIT OR Apache-2.0", "MIT"), ("Apache License, Version 2.0", "Apache-2.0"), ("Apache-2.0 WITH LLVM-exception", "Apache-2.0"), ("GFDL-1.3-or-later", "GFDL"),
        ("//creativecommons.org/licenses/by/3.0/us/?ref=chooser-v1", "CC-BY-3.0"), ("bsd", "BSD-3-Clause"), ("0BSD", "0BSD"),
        ("http://creativecommons.org/licenses/by/3.0//", "CC-BY-3.0"), ("https://creativecommons.org/licenses/by-sa/4.0/legalcode.de", "CC-BY-SA-4.0"),
        ("https://creativecommons.org/licenses/by/3.0/igo/deed.en_US", "CC-BY-3.0"), ("https://creativecommons.org/licenses/by/2.5/scotland/", "CC-BY-2.5"),
        ("https://web.archive.org/web/2014/http://creativecommons.org/licenses/by-sa/3.0/deed.en", "CC-BY-SA-3.0"),
        ("https://creativecommons.org/licenses/by/4.0/.", "CC-BY-4.0"), ("http://www.creativecommons.org/licenses/by/4.0/#x", "CC-BY-4.0"),
        *((f"https://creativecommons.org/licenses/by/4.0/{tail}", "CC-BY-4.0") for tail in ("”", "”.", "»", "’", "`", "*", "}", "|", "。", "、", "deed.es_419")),
        ("“https://creativecommons.org/licenses/by/4.0/”", "CC-BY-4.0"), ("https://creativecommons.org/licenses/by-sa/4/", "CC-BY-SA-4.0"),
        ("https%3A%2F%2Fcreativecommons.org%2Flicenses%2Fby%2F4.0%2F", "CC-BY-4.0"), ("https://creativecommons.org/publicdomain/zero/1.0/deed.no", "CC0-1.0"),
    ],
)  # fmt: skip
def test_a_permissive_license_is_recognized_in_plain_words(claim: str, name: str) -> None:
    assert recognized(claim) == name
    assert claims(license=claim)[2] is True


def claims(*found: tuple[str, str], license: str | None = None) -> tuple[Any, ...]:
    meta = {"html": {"license": [{"via": via, "url": url} for via, url in found]}}
    result = row("license", meta, claimed_license=license)
    return tuple(result[field] for field in ("name", "via", "permissive", "conflict"))


BY = "https://creativecommons.org/licenses/by/4.0/"
BY_OLD = "https://creativecommons.org/licenses/by/3.0/"
NC = "https://creativecommons.org/licenses/by-nc/4.0/"


def test_license_by_rank_and_conflict() -> None:
    assert claims() == (None, None, None, False)
    assert claims(("footer", BY_OLD), ("json-ld", BY)) == ("CC-BY-4.0", "json-ld", True, False)
    assert claims(("body", NC)) == ("CC-BY-NC-4.0", "body", False, False)
    assert claims(("a", BY), ("body", NC)) == (None, "a", None, True)
    assert claims(("json-ld", "https://news.example/terms"), ("body", BY)) == (None, "json-ld", None, True), "an unknown license is another license"
    assert claims(("meta", "https://news.example/terms")) == (None, "meta", None, False)
    assert claims(("nonsense", BY)) == (None, None, None, False)


def test_license_of_the_source() -> None:
    assert claims(license="MIT") == ("MIT", "source", True, False)
    assert claims(("footer", NC), license="CC-BY-4.0") == (None, "source", None, True)


@pytest.mark.parametrize(
    ("url", "host", "domain"),
    [
        ("https://WWW.Example.co.uk:8080/a?b#c", "www.example.co.uk", "example.co.uk"),
        ("http://a.b.example.com./", "a.b.example.com", "example.com"),
        ("https://user:secret@news.com.br/x", "news.com.br", "news.com.br"),
        ("https://de.wikipedia.org/", "de.wikipedia.org", "wikipedia.org"),
        ("https://com.de/", "com.de", "com.de"),
        ("https://co.uk/", "co.uk", None),
        ("http://192.0.2.1/x", "192.0.2.1", None),
        ("http://[2001:db8::1]/x", "2001:db8::1", None),
        ("http://localhost/", "localhost", None),
        ("example.org/path", "example.org", "example.org"),
        ("http://[broken", "", None),
        ("javascript:alert(1)", "", None),
        ("", "", None),
        ("http://münchen.example/ü", "münchen.example", "münchen.example"),
    ],
)
def test_hosts_and_domains(url: str, host: str, domain: str | None) -> None:
    assert parts_of(url)[0] == host
    assert (registered_domain(host) if host else None) == domain


def blocked(folder: Path, lines: str, *urls: str) -> list[bool]:
    (folder / "blocked.txt").write_text(lines, encoding="utf-8")
    batch = pa.record_batch({"text": ["x"] * len(urls), "url": pa.array(urls)})
    return [row["blocked"] for row in annotate(batch, "site", {"blocklist": "blocked.txt"}, folder).to_pylist()]


def test_paths_of_a_block_list_keep_their_case(tmp_path: Path) -> None:
    lines = "Site.example/Forum\nHTTPS://Other.example/A/b/\n"
    urls = ["https://site.example/Forum/x", "https://site.example/forum/x", "http://OTHER.example/A/b/c", "http://other.example/a/b/c"]
    assert blocked(tmp_path, lines, *urls) == [True, False, True, False]


def test_hosts_files_and_stars_are_understood(tmp_path: Path) -> None:
    lines = (
        "\ufeff127.0.0.1 localhost\n::1 ip6-localhost\n0.0.0.0 Spam.example ads.example # both\n\t0.0.0.0\ttracker.example\n*.evil.example\n"
        ".dotted.example\n198.51.100.7\n[2001:db8::1]\nport.example:8080/x\nm\xfcnchen.example\nunder_score.example\n"
    )
    urls = [
        "http://spam.example/", "http://a.ads.example/x", "http://tracker.example", "http://a.evil.example", "http://evil.example/", "http://dotted.example/",
        "http://198.51.100.7/", "http://[2001:db8::1]/", "http://port.example/x/y", "http://m\xfcnchen.example/", "http://under_score.example/",
    ]  # fmt: skip
    assert blocked(tmp_path, lines, *urls, "http://good.example/", "http://port.example/y") == [True] * len(urls) + [False, False]


@pytest.mark.parametrize(
    "line", ["||evil.example^", "two words", "a.*.example", "site.example/x*", "site.example/?id=3", "http://", "evil..example", "https:///x"]
)
def test_a_line_that_can_match_nothing_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(SpecError, match=r"blocked\.txt:3") as caught:
        blocked(tmp_path, f"fine.example\n\n{line}\n", "http://evil.example/")
    assert "can match no URL" in str(caught.value)


def test_block_list_and_words(tmp_path: Path) -> None:
    (tmp_path / "blocked.txt").write_text("# comment\nbad.example\nhttps://mixed.example/spam\n\nzip\n")
    (tmp_path / "words.txt").write_text("casino\nPills\n")
    urls = [
        "https://bad.example/", "https://www.bad.example/a", "https://notbad.example/", "https://mixed.example/spam/page", "https://mixed.example/spammer",
        "https://x.zip/", None, "https://a.example/CASINO-best%20pills", "https://a.example/casinos",
    ]  # fmt: skip
    batch = pa.record_batch({"text": ["x"] * len(urls), "url": pa.array(urls)})
    rows = annotate(batch, "site", {"blocklist": "blocked.txt", "words": "words.txt"}, tmp_path).to_pylist()
    assert [r["blocked"] for r in rows] == [True, True, False, True, False, True, False, False, False]
    assert [r["words"] for r in rows] == [0, 0, 0, 0, 0, 0, 0, 2, 0]
    (tmp_path / "blocked.txt").write_text("a.example\n")
    import os

    os.utime(tmp_path / "blocked.txt", ns=(1, 1))
    rows = annotate(batch, "site", {"blocklist": "blocked.txt"}, tmp_path).to_pylist()
    assert [r["blocked"] for r in rows] == [False] * 7 + [True, True], "a changed list is read again"
