"""Cases that try to make a certificate false: drawn from a seed, judged by ``benchmarks.oracle``.

    python -m benchmarks.attack --cases 10000 --seed 0 --jobs 2
    python -m benchmarks.attack --case 17 --kinds bounds        # one case again, with its ingredients

A case is one integer: its seed draws every ingredient of a small training problem (``INGREDIENTS``), and numbers. What
is checked, the kinds of ``CHECKS``:

bounds   No lower bound of scope "global" is above the objective of any network of the class by more than 1e-9 of that
         objective plus its rounding: what the sum of its losses grows by when every prediction is eight units in the
         last place of its size (|prediction| + |target|) off. The objective that a certificate states is that of its
         network, to the same accuracy, where the size counts all summands of a prediction.
verify   ``Certificate.verify`` accepts what was found, and refuses forgeries: a bound above what was proved by a
         millionth of the gap (or a thousand times rounding), or above the objective; theta moved along the unpenalised
         terms where that raises the bound; prices and evidence of something else; NaN anywhere.
fits     No fit ends above the best constant, or optimal in word only; none warns of arithmetic; (X, c y) and, where no
         norm holds a bias, (c X, y) with alpha scaled alike give the same predictions, or a refusal.

A ValueError that names an argument is a refusal; any other exception and any warning is a counterexample, and so is a
case that takes more than ten seconds of a processor or four gigabytes.
"""

from __future__ import annotations

import argparse
import re
import resource
import signal
import sys
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from decimal import Decimal, localcontext
from functools import cached_property
from time import perf_counter

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from benchmarks.oracle import CLASSES, PRECISION, REAL, SIGNS, Descent, Oracle, Setting, exact
from convexnn import (
    ConvexReLUClassifier,
    ConvexReLURegressor,
    Network,
    certify,
)
from convexnn.losses import LOSSES
from convexnn.proofs.certificate import Enumeration
from convexnn.proofs.graded import Graded, task_of
from convexnn.univariate import ReLUSplineRegressor

#: By how much of an objective a bound may be above it, beside rounding.
EXCESS = Decimal("1e-9")
#: Share of the objective of the best constant below which there is nothing left to explain.
NEGLIGIBLE = Decimal("1e-12")
#: Samples and features up to which the oracle lists all cells.
FEW = 7, 2
#: What a case is made of; options that come first are simplest, and repeated ones are drawn more often.
INGREDIENTS = {
    "n": (4, 1, 2, 3, 5, 6, 7, 4, 5, 6, 7, 15, 30),
    "d": (1, 1, 2, 2, 2, 3, 5),
    "rows": (
        *("normal",) * 3,
        *("integers", "repeated", "opposite", "zero", "collinear", "constant"),
        *("ulp", "cluster", "dependent", "dependent"),
    ),
    "closeness": (1e-6, 1e-8, 1e-10, 1e-11, 1e-12, 1e-13, 1e-14),
    "offset": (*(0.0,) * 8, 1.0, 1e3, 1e5, 1e6, 1e8, 1e10, 1e12),
    "scale": (*(1.0,) * 8, 1e-4, 1e4, 1e-30, 1e30, 1e-150, 1e150),
    "unequal": (1.0, 1.0, 1.0, 1e3, 1e-6, 1e9),
    "target": ("normal", "integers", "line", "kink", "close", "constant", "rounding"),
    "target_offset": (*(0.0,) * 6, 1.0, 1e3, 1e6, 1e9, 1e12),
    "target_scale": (*(1.0,) * 7, 1e-6, 1e4, 1e-30, 1e30, 1e-150, 1e150),
    "loss": (*("squared",) * 3, *LOSSES),
    "hidden_bias": ("penalized", "none", "free"),
    "intercept": (True, False),
    "skip": (False, False, True),
    "feature_penalty": (*(None,) * 4, 1.0, 0.5, 10.0, "unequal"),
    "weights": (None, None, "uniform", "zeros", "wide"),
    "maker": (*("certify",) * 4, "exact", "gated", "adaptive", "spline"),
    "method": ("enumeration", "enumeration", "auto", "branch_and_bound", "sums_of_squares"),
    "theta": ("oracle", "oracle", "found", "target", "random", "stretched", "zero"),
    "network": ("constant", "random", "oracle"),
    "ratio": (0.1, 0.5, 2.0, 1.0, 1e-2, 1e-3, 1e-4, 1e-6),
}


@dataclass(frozen=True)
class Case:
    """A small training problem and how it is certified, from its ingredients and a seed for the numbers.

    Ingredients that do not go together give way: free biases have an intercept and no feature penalty, gates no free
    biases, splines one feature; sums of squares need smooth losses.
    """

    seed: int = 0
    n: int = 4
    d: int = 1
    rows: str = "normal"
    closeness: float = 1e-10
    offset: float = 0.0
    scale: float = 1.0
    unequal: float = 1.0
    target: str = "normal"
    target_offset: float = 0.0
    target_scale: float = 1.0
    loss: str = "squared"
    hidden_bias: str = "penalized"
    intercept: bool = True
    skip: bool = False
    feature_penalty: float | str | None = None
    weights: str | None = None
    maker: str = "certify"
    method: str = "enumeration"
    theta: str = "oracle"
    network: str = "constant"
    ratio: float = 0.1

    @classmethod
    def of(cls, seed, **chosen):
        """The case of chosen ingredients, after those that do not go together have given way."""
        if chosen["maker"] == "spline":
            chosen |= dict(d=1, hidden_bias="free", skip=True)
            chosen["loss"] = "huber" if chosen["loss"] == "huber" else "squared"
        if chosen["maker"] == "gated" and chosen["hidden_bias"] == "free":
            chosen["hidden_bias"] = "penalized"
        if chosen["hidden_bias"] == "free":
            chosen |= dict(intercept=True, feature_penalty=None)
        if chosen["loss"] not in REAL:
            chosen |= dict(n=max(chosen["n"], 4))
        if chosen["loss"] in CLASSES and chosen["n"] <= FEW[0]:
            chosen |= dict(n=min(chosen["n"], 5))
        if chosen["maker"] in ("gated", "exact"):
            chosen |= dict(n=min(chosen["n"], FEW[0]), d=min(chosen["d"], FEW[1]))
        if chosen["method"] == "sums_of_squares" and not np.isfinite(LOSSES[chosen["loss"]].lipschitz):
            chosen["method"] = "branch_and_bound"
        return cls(seed, **chosen)

    @classmethod
    def draw(cls, seed):
        """The case of a seed."""
        rng = np.random.default_rng([seed, 22])
        return cls.of(seed, **{name: options[rng.integers(len(options))] for name, options in INGREDIENTS.items()})

    def __str__(self):
        said = [f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if getattr(self, f.name) != f.default]
        return f"Case({', '.join(said)})"

    @property
    def rng(self):
        return np.random.default_rng(self.seed)

    @cached_property
    def data(self):
        """X, y in the coding of the loss, sample weights or None."""
        rng, n, d = self.rng, self.n, self.d
        X = rng.standard_normal((n, d))
        other, kept = rng.standard_normal((n, d)), rng.integers(0, n // 2 + 1, n)
        z, some = rng.standard_normal(n), rng.random(n) < 0.5
        if self.rows == "integers":
            X = np.round(X)
        elif self.rows == "repeated":
            X = X[kept]
        elif self.rows == "opposite":
            X = X[kept] * np.where(some, -1.0, 1.0)[:, None]
        elif self.rows == "zero":
            X[some] = 0.0
        elif self.rows == "collinear":
            X = np.outer(X[:, 0], other[0])
        elif self.rows == "constant":
            X[:, -1] = X[0, 0]
        elif self.rows == "ulp":
            X = np.where(some[:, None], np.nextafter(X[kept], np.inf), X[kept])
        elif self.rows == "cluster":
            X[1:] = X[1:2] + self.closeness * other[1:]
        X[:, 0] *= self.unequal
        X = self.offset + X
        if self.rows == "dependent":
            X[:, -1] = X[:, 0] + self.closeness * z
        if self.rows == "ulp" and self.offset:
            X = np.where(some[:, None], np.nextafter(X[kept], np.inf), X[kept])
        y = {
            "normal": other[:, 0],
            "integers": np.round(2 * other[:, 0]),
            "line": X[:, 0] - X[0, 0] + 0.1 * other[:, 0],
            "kink": np.abs(X[:, 0] - X[0, 0]) + 0.01 * other[:, 0],
            "close": z,
            "constant": np.ones(n),
            "rounding": np.where(some, 0.1 + 0.2, 0.3),
        }[self.target]
        y = (self.target_offset + y) * self.target_scale
        if self.loss in SIGNS:
            y = np.where(np.arange(n) % 2, 1.0, -1.0)
        if self.loss in CLASSES:
            y = np.arange(n) % 3
        weights = {
            None: None,
            "uniform": rng.uniform(0.5, 2.0, n),
            "zeros": rng.uniform(0.5, 2.0, n) * (some | (np.arange(n) < 3)),
            "wide": 10.0 ** rng.uniform(-6, 6, n),
        }[self.weights]
        return X * self.scale, y, weights

    @cached_property
    def mu(self):
        """Feature penalty of the features, or None."""
        if self.feature_penalty == "unequal":
            return np.where(np.arange(self.d) % 2, 0.0, 2.0)
        return None if self.feature_penalty is None else np.full(self.d, self.feature_penalty)

    @cached_property
    def keep(self):
        """Samples of positive weight."""
        weights = self.data[2]
        return np.ones(self.n, dtype=bool) if weights is None else weights > 0

    @cached_property
    def setting(self):
        """What the oracle is asked."""
        X, y, weights = self.data
        weights, keep = np.ones(self.n) if weights is None else weights, self.keep
        options = (self.loss, self.hidden_bias, self.intercept, self.skip, self.maker == "gated", self.mu)
        return Setting(X[keep], y[keep], weights[keep], *options, 3 if self.loss in CLASSES else 1)

    @cached_property
    def oracle(self):
        """All cells where they are few, else descents."""
        few = self.n <= FEW[0] and self.d <= FEW[1]
        return (Oracle if few else Descent)(self.setting)

    @cached_property
    def alpha(self):
        """ratio * alpha_max; ratio itself where that is no ordinary number."""
        alpha = self.ratio * self.oracle.alpha_max
        return alpha if 1e-300 < alpha < 1e300 else self.ratio

    @cached_property
    def best(self):
        return self.oracle.best(self.alpha)

    @cached_property
    def graded(self):
        """The network that is graded."""
        d, C = self.d, self.setting.n_outputs
        kind = dict(
            hidden_bias="free" if self.hidden_bias == "free" else "penalized",
            feature_penalty=self.mu,
        )
        if self.network == "oracle":
            w = {name: None if value is None else value.astype(float) for name, value in self.best.weights.items()}
            c = w["c"] if C > 1 else float(w["c"])
            if all(value is None or np.isfinite(value).all() for value in w.values()):
                return Network(w["W"], w["b"], w["a"], c, skip_weights=w["s"], **kind)
        rng, m = self.rng, 3 if self.network == "random" else 0
        skip = rng.standard_normal((d, C)) * bool(m) if self.skip else None
        c = rng.standard_normal(C) * self.intercept * bool(m)
        W, b = rng.standard_normal((m, d)), rng.standard_normal(m) * (self.hidden_bias != "none")
        a = np.eye(C)[np.arange(m) % C] * rng.standard_normal((m, 1))
        if C == 1:
            a, c, skip = a[:, 0], float(c[0]), None if skip is None else skip[:, 0]
        return Network(W, b, a, c, skip_weights=skip, **kind)

    @cached_property
    def point(self):
        """The dual point that is given, or None."""
        good = np.nan_to_num(self.best.theta)
        target = self.setting.y if self.loss in REAL else good
        return {
            "oracle": good,
            "found": None,
            "target": target,
            "random": self.alpha * self.rng.standard_normal(good.shape),
            "stretched": 1.3 * good,
            "zero": 0 * good,
        }[self.theta]

    @cached_property
    def certificate(self):
        """What is checked."""
        X, y, weights = self.data
        if self.maker == "certify":
            options = dict(alpha=self.alpha, loss=self.loss, sample_weight=weights, fit_intercept=self.intercept)
            options |= dict(hidden_bias=self.hidden_bias, method=self.method, theta=self.point, max_time=0.3)
            return certify(self.graded, X, y, **options)
        return self.model.fit(X, y, weights).certificate_

    @cached_property
    def model(self):
        """The estimator, not yet fitted."""
        if self.maker == "spline":
            return ReLUSplineRegressor(self.alpha, loss=self.loss)
        kind = ConvexReLURegressor if self.loss in REAL else ConvexReLUClassifier
        adaptive = self.maker == "adaptive" and np.isfinite(LOSSES[self.loss].lipschitz)
        limits = dict(patterns="adaptive", certify=True, max_time=1.0) if adaptive else dict(patterns="exact")
        return kind(
            self.alpha,
            loss="log_loss" if self.loss in CLASSES else self.loss,
            activation="gated_relu" if self.maker == "gated" else "relu",
            hidden_bias=self.hidden_bias,
            fit_intercept=self.intercept,
            skip_connection=self.skip,
            feature_penalty=0.0 if self.mu is None else self.mu,
            random_state=0,
            **limits,
        )

    def objective_of(self, network):
        """Objective of a network of doubles as a decimal, and its predictions."""
        return self.setting.objective(self.alpha, *self._weights(network), self._gates(network))

    def rounding_of(self, network):
        """What double precision may add to the objective of a network, by the sizes of all summands of predictions."""
        with localcontext(PRECISION):
            W, b, a, c, s = (None if part is None else abs(exact(part)) for part in self._weights(network))
            X = abs(exact(self.setting.X))
            sizes = c + ((X @ W.T + b) @ a if len(W) else 0) + (0 if s is None else X @ s)
            _, z = self.objective_of(network)
            return float(self.setting.rounding(z, sizes))

    def rounding_at(self, theta):
        """What double precision may add to the dual value at theta, a sum of products of theta and targets."""
        one = self.setting
        sizes = np.abs(one.y) if self.loss in REAL else np.ones(len(one.y))
        theta = np.abs(theta).reshape(len(sizes), -1).sum(axis=1)
        return float(8 * np.finfo(float).eps * (theta @ sizes + theta @ (theta / one.weight)))

    @staticmethod
    def _weights(network):
        both = (network.hidden_weights, network.hidden_biases, network.output_weights, network.output_bias)
        return *both, network.skip_weights

    def _gates(self, network):
        if network.gate_weights is None:
            return None
        return (self.setting.X @ network.gate_weights.T + network.gate_biases >= 0).T

    @property
    def other_units(self):
        """Factors of X and y under which the fit must not change, where predictions are unique."""
        if self.loss not in ("squared", "log_loss", *CLASSES):
            return
        c = UNITS[self.seed % len(UNITS)]
        if self.loss == "squared":
            yield f"y * {c:g}", 1.0, c
        if self.hidden_bias != "penalized":
            yield f"X * {c:g}", c, 1.0

    def trained(self, x_factor, y_factor):
        """The model of the data in other units."""
        X, y, weights = self.data
        model = clone(self.model)
        if self.maker != "spline":
            model.set_params(max_time=None, certify="auto", **self.patterns)
        return model.set_params(alpha=self.alpha * x_factor * y_factor).fit(X * x_factor, y * y_factor, weights)

    @property
    def patterns(self):
        """How patterns are listed by a fit that is to be checked as a fit."""
        searched = self.maker in ("adaptive", "certify") and np.isfinite(LOSSES[self.loss].lipschitz)
        return dict(patterns="adaptive" if searched else "exact")


# The checks: each yields what is wrong, in words.


def check_bounds(case):
    """No bound above the objective of a network, and objectives that are those of the networks."""
    certificate = case.certificate
    if certificate.scope != "global":
        return
    value, z = case.best.value, case.best.predictions
    with localcontext(PRECISION):
        allowed = EXCESS * value + case.setting.rounding(z)
        bound = certificate.lower_bound
        if not np.isfinite(bound):
            yield f"bound is {bound}"
        elif Decimal(bound) > value + allowed:
            yield f"bound {bound:.12g} above a network of {value:.12g} (by {float(Decimal(bound) - value):.2e})"
        value, _ = case.objective_of(certificate.network)
        allowed = EXCESS * value + Decimal(case.rounding_of(certificate.network))
        if not abs(Decimal(certificate.objective) - value) <= allowed:
            yield f"objective {certificate.objective:.12g}, of the network {value:.12g}"


def check_verify(case):
    """Honest certificates are accepted, forgeries refused."""
    certificate, (X, y, weights) = case.certificate, case.data
    if certificate.scope != "global":
        return
    try:
        certificate.verify(X, y, weights)
    except ValueError as error:
        yield f"an honest certificate is refused: {error}"
        return
    for words, forged in forgeries(case, certificate):
        try:
            forged.verify(X, y, weights)
        except ValueError:
            continue
        yield f"a forgery is accepted: {words}"


def forgeries(case, certificate):
    """Certificates that say what is not so, and how they do."""
    gap = certificate.objective - certificate.lower_bound
    rounding = 1e3 * (case.rounding_of(certificate.network) + case.rounding_at(certificate.theta))
    step = max(1e-6 * gap, rounding)
    nan = float("nan")
    yield "lower_bound restated", replace(certificate, lower_bound=certificate.lower_bound + step)
    yield "lower_bound above objective", replace(certificate, lower_bound=certificate.objective + step)
    if gap > rounding:
        yield "objective restated", replace(certificate, objective=certificate.lower_bound)
    for name in ("objective", "lower_bound", "price", "alpha"):
        yield f"{name} is NaN", replace(certificate, **{name: nan})
    theta = certificate.theta.copy()
    theta.flat[0] = nan
    yield "theta holds NaN", replace(certificate, theta=theta)
    if certificate.price > 1e-3:
        yield "price restated", replace(certificate, price=0.9 * certificate.price)
    if not certificate.evidence:
        return
    yield "evidence left out", replace(certificate, evidence=certificate.evidence[1:])
    output, sign, proof = certificate.evidence[0]
    yield (
        "evidence is NaN",
        replace(certificate, evidence=((output, sign, proof.scaled(nan)), *certificate.evidence[1:])),
    )
    bounds = {(output, sign): proof.bound for output, sign, proof in certificate.evidence}
    unit = max(bounds.values()) / certificate.price if certificate.price > 0 else np.inf
    if any(abs(bounds[k, 1] - bounds[k, -1]) > 1e-6 * unit for k, _ in bounds):
        other = tuple((output, -sign, proof) for output, sign, proof in certificate.evidence)
        yield "evidence of another sign", replace(certificate, evidence=other)
    if all(isinstance(proof, Enumeration) for *_, proof in certificate.evidence) and case.loss == "squared":
        yield from _moved(case, certificate, rounding)


def _moved(case, certificate, rounding):
    """Half of theta, moved along each unpenalised term until the dual value rises by a thousandth of its gap."""
    one = case.setting
    X, y, w = one.X, one.y, one.weight
    task = task_of(certificate.network, X, y, case.loss, w, case.intercept, case.hidden_bias)
    graded = Graded.of(certificate.network, task, case.alpha)
    free = [("constant", np.ones(len(X)))] * case.intercept + [("feature", column) for column in X.T] * case.skip
    theta = certificate.theta / 2
    value = theta @ (y - theta / w / 2)
    for name, column in free:
        if not column.any() or case.hidden_bias == "free":
            continue
        column = column / np.abs(column).max()
        slope = column @ (y - theta / w)
        gain = max(1e-3 * (certificate.objective - value), rounding)
        if not slope or not np.isfinite(gain / slope):
            continue
        moved = theta + gain / slope * column
        # Where rounding of the products hides the move nobody can tell.
        if abs(moved @ column) <= 1e3 * np.finfo(float).eps * (np.abs(moved) @ np.abs(column)):
            continue
        evidence = tuple(
            (
                output,
                sign,
                replace(proof, bound=proof.check(graded, sign * moved / graded.units.theta)),
            )
            for output, sign, proof in certificate.evidence
        )
        price = max(proof.bound for *_, proof in evidence) / graded.normal.alpha
        bound = float(moved @ (y - moved / w / 2))
        words = f"theta moved along the {name}: a bound of {bound:.6g} after {value:.6g}"
        yield words, replace(certificate, theta=moved, lower_bound=bound, price=price, evidence=evidence)


def check_fits(case):
    """No fit is above the best constant, or optimal in word only, and units do not matter."""
    model = case.trained(1.0, 1.0)
    network, certificate = model.network_, model.certificate_
    value, z = case.objective_of(network)
    with localcontext(PRECISION):
        allowed = Decimal(case.rounding_of(network))
        constant, at = type(case.oracle)(replace(case.setting, skip=False)).constant
        allowed += EXCESS * constant + case.setting.rounding(at)
        if not value <= constant + allowed:
            yield f"objective {value:.12g}, above the {constant:.12g} of the best constant"
        if model.result_.status == "optimal":
            complete = certificate.scope == "global" and not certificate.n_searched
            # A search may miss what a list cannot; a hundredth is no longer the tolerance.
            share = Decimal(2 * model.tol if complete else 0.01)
            best = case.best.value
            # What is left of a fit that is perfect but for a millionth of the spread is negligible.
            allowed = Decimal(case.rounding_of(network)) + case.setting.rounding(case.best.predictions)
            allowed += NEGLIGIBLE * constant
            if not value <= best * (1 + share) + allowed:
                yield f"optimal in word: objective {value:.12g}, of a network {best:.12g}"
            gap = certificate.relative_gap if complete else model.result_.history[-1]["relative_gap"]
            if complete and not gap * certificate.objective <= model.tol * certificate.objective + float(allowed):
                yield f"optimal in word: a relative gap of {gap:.2e} at tol {model.tol:g}"
    predictions = z.astype(float)
    for name, x_factor, y_factor in case.other_units:
        try:
            again = case.trained(x_factor, y_factor).network_
        except ValueError as error:
            if type(error) is not ValueError or not NAMED.search(str(error)):
                yield f"{name}: {type(error).__name__}: {error}"
            continue
        moved = again.predict(case.setting.X * x_factor) / y_factor
        off = np.abs(moved - predictions).max() / (np.abs(predictions).max() or 1.0)
        if not off <= 1e-6:
            yield f"{name}: predictions differ by {off:.1e}"


CHECKS = {"bounds": check_bounds, "verify": check_verify, "fits": check_fits}
#: Units that a fit is tried in, powers of two and others.
UNITS = (2.0**-20, 1e-6, 1e4, 2.0**40, 3.0, 1e-10, 1e-100, 1e100, 1e10)
#: Seconds after which a case is a finding; it takes some hundredths.
LIMIT = 10
#: Bytes that a process may take.
MEMORY = 4 << 30
#: A refusal says which argument it is about.
NAMED = re.compile(r"\b(X|y|alpha|sample_weight|theta|network|method|loss|hidden_bias|patterns|features?(_penalty)?)\b")


def _too_late(*_):
    raise TimeoutError(f"more than {LIMIT} s")


def examine(case, kinds):
    """What is wrong with a case, as (kind, words); ("refused", words) for a ValueError that names an argument."""
    found = []
    signal.signal(signal.SIGPROF, _too_late)
    for kind in kinds:
        # Again and again, for where an exception is swallowed.
        signal.setitimer(signal.ITIMER_PROF, LIMIT, 1.0)
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                warnings.simplefilter("ignore", ConvergenceWarning)
                found += [(kind, words) for words in CHECKS[kind](case)]
        except ValueError as error:
            clear = type(error) is ValueError and NAMED.search(str(error))
            found.append(("refused" if clear else kind, f"{type(error).__name__}: {error}"))
        except Exception as error:  # Whatever it is, it is a finding.
            found.append((kind, f"{type(error).__name__}: {error}"))
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0.0)
        said = [one for one in said if not issubclass(one.category, UserWarning)]
        found += [(kind, f"{one.category.__name__}: {one.message} ({one.filename}:{one.lineno})") for one in said[:1]]
    return found


def _limit_memory():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _one(seed, kinds):
    begin, case = perf_counter(), Case.draw(seed)
    found = examine(case, kinds)
    return seed, case.maker, case.method if case.maker == "certify" else "", found, perf_counter() - begin


def main(argv=None):
    """Run many cases; 1 if any is a counterexample."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000, help="how many (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="the first (default: 0)")
    parser.add_argument("--case", type=int, help="only this one, with its ingredients")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--kinds", default=",".join(CHECKS), help=f"what is checked (default: {','.join(CHECKS)})")
    args = parser.parse_args(argv)
    kinds = args.kinds.split(",")
    if args.case is not None:
        case = Case.draw(args.case)
        print(case)
        found = examine(case, kinds)
        print(*(f"{kind}: {words}" for kind, words in found), sep="\n")
        return int(any(kind != "refused" for kind, _ in found))
    seeds = range(args.seed, args.seed + args.cases)
    ran, wrong, refused, times = Counter(), Counter(), 0, []
    with ProcessPoolExecutor(args.jobs, initializer=_limit_memory) as pool:
        for seed, maker, method, found, seconds in pool.map(_one, seeds, [kinds] * len(seeds), chunksize=10):
            label = f"{maker} {method}".strip()
            ran[label] += 1
            times.append(seconds)
            refused += any(kind == "refused" for kind, _ in found)
            bad = [(kind, words) for kind, words in found if kind != "refused"]
            wrong[label] += bool(bad)
            for kind, words in bad:
                print(f"--case {seed} --kinds {kind}: {words}", flush=True)
    for label, count in sorted(ran.items()):
        print(f"{label:30} {count:6} cases, {wrong[label]} counterexamples")
    print(
        f"{len(times)} cases from seed {args.seed} ({','.join(kinds)}): {sum(wrong.values())} counterexamples, "
        f"{refused} refused with a sentence; {np.median(times):.2f} s a case, the longest {max(times):.1f} s."
    )
    return int(any(wrong.values()))


if __name__ == "__main__":
    sys.exit(main())
