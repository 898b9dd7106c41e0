"""One thread for linear algebra: on matrices of some hundred rows more threads cost more than they do, and sums come out in another order.

So a swarm gives the same laws and the same mix, bit for bit, on two cores and on sixty-four; several suites use several cores (a task each).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Keep the linear algebra of numpy and scipy on one thread, as a context or a decorator."""
    import scipy.linalg  # noqa: F401  brings a library of its own, which a limit reaches only once it is there
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield
