"""Time limits that hold inside every loop, however deep, without being handed down to it.

A function with a limit opens a ``Budget`` around its work; loops below it call ``check``, which raises ``OutOfTime``
once the budget and a little slack are spent. Whoever holds the best network so far, or a bound, catches that. Code
that can end well by itself asks ``over`` earlier.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from time import perf_counter
from weakref import ref

# What work under way may take beyond a limit, and then again what concludes it: seconds, and a share of the limit.
SLACK = (0.2, 0.01)
# Floating point operations a second, on the safe side: what cannot be cut short does not begin when it would be late.
SPEED = 1e10


class OutOfTime(Exception):
    """The time of a ``Budget`` is spent: what was under way is not finished, and must not be used as if it were."""


#: What ends work before its time.
STOPS = (KeyboardInterrupt, OutOfTime)


class Budget:
    """Seconds for what happens inside a ``with`` block; inside another budget never more than that has left.

    Parameters
    ----------
    seconds : float or None
        None is no limit.
    slack : float, optional
        Seconds that work under way may take beyond, and again what concludes it; by default a fifth and a little more.
    """

    def __init__(self, seconds: float | None, slack: float | None = None):
        self.interrupted = False
        self.until = self.last = float("inf")
        self.slack = SLACK[0] + SLACK[1] * (seconds or 0.0) if slack is None else slack
        if seconds is not None:
            self.until = perf_counter() + seconds
            self.last = self.until + self.slack
        self._own = self.until, self.last
        self._concludes = False
        self._outer: Budget | None = None
        self._token: Token | None = None

    def __enter__(self) -> Budget:
        self._outer = _innermost()
        if self._outer is not None and not self._concludes:
            until, last = self._own
            self.until, self.last = min(until, self._outer.until), min(last, self._outer.last)
            self.slack = min(self.slack, self._outer.slack)
            self.interrupted = self.interrupted or self._outer.interrupted
        self._token = _current.set(ref(self))
        return self

    def __exit__(self, *_) -> None:
        if self._token is not None:
            _current.reset(self._token)

    @property
    def left(self) -> float | None:
        """Seconds that are left, at least 0; None without limit."""
        return None if self.until == float("inf") else max(self.until - perf_counter(), 0.0)

    def part(self, share: float) -> Budget:
        """A budget for a share of what is left."""
        return Budget(None if self.left is None else share * self.left, self.slack)

    @property
    def over(self) -> bool:
        """Whether the time is spent, or the user has asked for the end."""
        return self.interrupted or perf_counter() > self.until

    @property
    def status(self) -> str:
        """How a result that this budget cut short is called."""
        return "interrupted" if self.interrupted else "time_limit"

    def stop(self, reason: BaseException) -> str:
        """Take note of what ended the work, and say how the result is called: after Ctrl-C all budgets end now."""
        budget: Budget | None = self if isinstance(reason, KeyboardInterrupt) else None
        while budget is not None:
            now = perf_counter()
            budget.interrupted = True
            budget.until, budget.last = min(budget.until, now), min(budget.last, now + SLACK[0] / 2)
            budget._own = budget.until, budget.last
            budget = budget._outer
        return self.status

    @classmethod
    def without_limit(cls) -> Budget:
        """A budget for what has to be done whatever the time."""
        budget = cls(None)
        budget._concludes = True
        return budget

    def conclusion(self) -> Budget:
        """A budget for what concludes the work: what is left, and some slack whatever is left."""
        late = Budget.without_limit()
        late.interrupted, late.until = self.interrupted, self.until
        late.last = max(self.last, perf_counter() + (SLACK[0] if self.interrupted else self.slack))
        return late


# A reference that is weak: a budget that an interrupt has kept from closing limits nothing once its function has ended.
_current: ContextVar[ref[Budget] | None] = ContextVar("budget", default=None)


def _innermost() -> Budget | None:
    found = _current.get()
    return None if found is None else found()


def current() -> Budget:
    """The budget around the caller, or one without limit."""
    return _innermost() or Budget(None)


def late() -> bool:
    """Whether the time is spent: what can end well by itself should."""
    return current().over


def check(work: float = 0.0) -> None:
    """Raise ``OutOfTime`` when the time is spent, or would be after so many floating point operations."""
    if not affordable(work):
        raise OutOfTime


def affordable(work: float) -> bool:
    """Whether there is time for so many floating point operations."""
    budget = _innermost()
    return budget is None or perf_counter() + work / SPEED <= budget.last
