"""HTML → text.

- `engines`: resiliparse or trafilatura, chosen by the spec
- `guard`: recognizes markup that would keep a parser busy for minutes
"""

from curate.extract.engines import extract
from curate.extract.guard import excess

__all__ = ["excess", "extract"]
