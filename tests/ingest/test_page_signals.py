"""What a page says about its language, its license and the use of its text."""

from __future__ import annotations

from typing import Any

import pytest

from curate.ingest.signals import signals_of


def signals(html: str) -> dict[str, Any]:
    from resiliparse.parse.html import HTMLTree

    return signals_of(HTMLTree.parse(html), html)


def test_only_what_is_there() -> None:
    assert signals("<p>nothing") == {}
    assert signals("") == {}
    assert signals('<html lang="de-AT"><title> Ein\n Titel </title>') == {"lang": "de-AT", "title": "Ein Titel"}


def test_robots_and_reservations_keep_the_agents_name() -> None:
    html = """<meta name=ROBOTS content="noindex, noai"><meta name="GPTBot" content="noindex,nofollow">
              <meta name=googlebot content=noindex><meta name="tdm-reservation" content="1"><meta name=viewport content=x>"""
    assert signals(html) == {"robots": "noindex, noai, gptbot: noindex, gptbot: nofollow", "tdm-reservation": "1"}


@pytest.mark.parametrize(
    ("html", "found"),
    [
        ('<meta name="DC.License" content="CC BY 4.0">', [("meta", "CC BY 4.0")]),
        ('<meta name="dcterms.rights" content="All rights reserved">', None),
        ('<meta name="dcterms.rights" content="https://creativecommons.org/licenses/by/4.0/">', [("meta", "https://creativecommons.org/licenses/by/4.0/")]),
        ('<link rel="license" href="/terms">', [("link", "/terms")]),
        ('<a rel="nofollow License" href="https://l/">x</a>', [("a", "https://l/")]),
        (
            '<footer><a href="https://creativecommons.org/licenses/by/4.0/">x</a></footer>',
            [("footer", "https://creativecommons.org/licenses/by/4.0/")],
        ),
        (
            '<div class="Site-Footer"><p><a href="//creativecommons.org/publicdomain/zero/1.0/">x</a></div>',
            [("footer", "//creativecommons.org/publicdomain/zero/1.0/")],
        ),
        ('<p><a href="https://creativecommons.org/licenses/by-nc/2.0/">x</a>', [("body", "https://creativecommons.org/licenses/by-nc/2.0/")]),
        ('<p><a href="https://creativecommons.org/donate">x</a>', None),
        ('<script type="application/ld+json">{"@graph": [{"@type": "Article", "license": "https://l/"}]}</script>', [("json-ld", "https://l/")]),
        ('<script type="application/ld+json">{"license": [{"@id": "https://l/"}]}</script>', [("json-ld", "https://l/")]),
        ('<script type="application/ld+json">{"@type": "Article", "image": {"@type": "ImageObject", "license": "https://l/"}}</script>', None),
        ('<script type="application/ld+json">{"license": </script>', None),
        ('<script type="application/ld+json">' + "[" * 100_000 + '"license"</script>', None),
    ],
)  # fmt: skip
def test_licenses_by_place(html: str, found: list[tuple[str, str]] | None) -> None:
    assert signals(html).get("license") == (None if found is None else [{"via": via, "url": url} for via, url in found])


def test_floods_are_cut() -> None:
    html = "".join(f'<a rel=license href="{"x" * 2000}{i}">x</a>' for i in range(50)) + "".join(f"<a rel=license href={i}>" for i in range(50))
    found = signals(f"<title>{'t' * 5000}</title><meta name=robots content='{'noai ' * 5000}'>{html}")
    assert len(found["license"]) == 20 and all(len(entry["url"]) <= 500 for entry in found["license"])
    assert len(found["title"]) == 500 and len(found["robots"]) <= 500
