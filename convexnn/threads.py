"""One thread for products of small matrices: threads that wait for each other cost more than they save."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController


@cache
def _controller() -> ThreadpoolController:
    # To find the libraries takes milliseconds, to set their threads microseconds.
    return ThreadpoolController()


@contextmanager
def one_thread() -> Iterator[None]:
    """A ``with`` block, or as a decorator a function, in which BLAS has one thread."""
    with _controller().limit(limits=1, user_api="blas"):
        yield
