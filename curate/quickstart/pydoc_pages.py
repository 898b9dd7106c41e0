"""Pages rendered by pydoc itself, as `python -m pydoc -b` shows them, inside a site's frame.

pydoc documents living objects, so their modules are imported: a short list of harmless ones that this program mostly
uses anyway. Values of variables are left out, since they hold paths, environment variables and addresses in memory.
"""

from __future__ import annotations

import importlib
import inspect
import pydoc
import re
import warnings
from collections.abc import Collection, Iterator

from curate.quickstart.chrome import Article
from curate.quickstart.prose import Block

_IMPORTED = [
    "argparse",
    "ast",
    "bisect",
    "calendar",
    "cmd",
    "codeop",
    "collections",
    "configparser",
    "contextlib",
    "copy",
    "csv",
    "dataclasses",
    "datetime",
    "difflib",
    "dis",
    "doctest",
    "email.message",
    "enum",
    "filecmp",
    "fractions",
    "ftplib",
    "functools",
    "gettext",
    "glob",
    "graphlib",
    "gzip",
    "heapq",
    "hmac",
    "html.parser",
    "http.client",
    "http.cookies",
    "inspect",
    "io",
    "ipaddress",
    "json",
    "logging",
    "logging.handlers",
    "mailbox",
    "math",
    "netrc",
    "numbers",
    "optparse",
    "pathlib",
    "pickle",
    "plistlib",
    "pprint",
    "queue",
    "random",
    "re",
    "sched",
    "selectors",
    "shelve",
    "shlex",
    "shutil",
    "smtplib",
    "socketserver",
    "statistics",
    "string",
    "subprocess",
    "tarfile",
    "tempfile",
    "textwrap",
    "threading",
    "timeit",
    "tokenize",
    "traceback",
    "types",
    "typing",
    "unittest.case",
    "urllib.parse",
    "uuid",
    "wave",
    "weakref",
    "xml.dom.minidom",
    "xml.sax.handler",
    "zipfile",
    "zoneinfo",
]
_MACHINE = re.compile(r" at 0x[0-9a-fA-F]+|frozenset\(|environ\(|(?<![\w'])/(?:usr|home|root|opt|Library|private)/")
MIN_CHARACTERS, MAX_CHARACTERS = 1_500, 60_000  # of HTML


class _Renderer(pydoc.HTMLDoc):
    """pydoc's HTML without the values of variables, which differ from machine to machine."""

    def docother(self, object: object, name: str | None = None, mod: str | None = None, *ignored: object) -> str:
        return f"<strong>{name}</strong>" if name else ""


def pydoc_articles(allowed: Collection[str], count: int) -> Iterator[Article]:
    """Yield up to `count` pages about classes of the `allowed` modules, in order of their names."""
    renderer, made = _Renderer(), 0
    for module in _IMPORTED:
        if module not in allowed:
            continue
        for kind in _classes(module, allowed)[:3]:
            rendered = _rendered(renderer, kind, module)
            if MIN_CHARACTERS <= len(rendered) <= MAX_CHARACTERS and not _MACHINE.search(rendered):
                title = f"Python: class {module}.{kind.__name__}"
                yield Article(title, f"pydoc: {kind.__name__}", (Block("markup", rendered),), f"pydoc/{module}.{kind.__name__}.html", "Pydoc")
                made += 1
                if made == count:
                    return


def _classes(module: str, allowed: Collection[str]) -> list[type]:
    """Return the module's documented classes that inherit from `allowed` modules only, since what they inherit is shown as well."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated modules
            loaded = importlib.import_module(module)
    except Exception:  # whatever a module lacks on this machine, there are others
        return []
    own = [thing for name, thing in vars(loaded).items() if inspect.isclass(thing) and thing.__module__ == module and not name.startswith("_")]
    allowed = {"builtins", "abc", *allowed}
    own = [kind for kind in own if kind.__doc__ and all(base.__module__ in allowed for base in kind.__mro__)]
    return sorted(own, key=lambda kind: (-len(kind.__doc__ or ""), kind.__qualname__))


def _rendered(renderer: _Renderer, kind: type, module: str) -> str:
    try:
        return renderer.docclass(kind, kind.__name__, module)
    except Exception:  # pydoc looks at everything a class has, and some things object to that
        return ""
