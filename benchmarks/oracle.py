"""The best two-layer network of tiny data, found without convexnn: every value is that of an explicit network.

    minimise  sum_i s_i l(y_i, f(x_i)) + alpha / 2 sum_j (Omega(w_j, b_j)^2 + |a_j|^2)

over networks f(x) = sum_j (w_j^T x + b_j)_+ a_j + c + x^T s of any width, or with gates. Activation patterns come from
exact integers, faces included; the neuron that improves a network most is among finitely many, one for each pattern
and face of its cone, and is found by comparing them all; the weights of the neurons found so far and the unpenalised
terms follow from a conic program. Data may be at an offset of 1e12 or scaled by 1e150: geometry, neurons and objectives
are in decimals of 120 digits, and only the conic program, whose numbers are of size one, in double precision. Whatever
that returns, the objective belongs to weights that are there: it is an upper bound of the optimum.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from itertools import combinations, product
from math import gcd, lcm

import clarabel
import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csc_array
from scipy.special import expit, logsumexp, softmax

#: Decimals: rounding is far below every dependence that doubles can have without being exact.
PRECISION = Context(prec=120)
#: Shares of a length below which a decimal is rounding.
EXACT = Decimal("1e-60")
#: Prices are compared in double precision up to this condition of the data.
WELL_SCALED = 1e4
#: Neurons that a round adds, neurons that are kept, rounds.
ADDED, KEPT, ROUNDS = 12, 60, 25
#: Losses: which targets they take.
REAL, SIGNS, CLASSES = (
    ("squared", "huber", "absolute", "quantile"),
    ("log_loss", "squared_hinge", "hinge"),
    ("multinomial_log_loss",),
)
DELTA, LEVEL = Decimal("1.35"), Decimal("0.5")
ZERO, ONE = Decimal(0), Decimal(1)
#: The smallest normal number of double precision.
TINY = Decimal(2) ** -1022


def exact(values):
    """The same numbers as decimals: an array of objects. Decimals stay what they are."""
    values = np.asarray(values)
    if values.dtype == object:
        return values
    values = values.astype(float)
    return np.array([Decimal(value) for value in values.ravel()], dtype=object).reshape(values.shape)


def sign_vectors(rows):
    """All sign vectors of ``rows @ u``, faces included, as pairs of bit masks (positive, negative), without rounding.

    They are compositions of those of the rays, each perpendicular to rank - 1 rows.
    """
    rows = _independent(_integers(rows))
    n, rank = len(rows), len(rows[0]) if rows else 0
    rays = set()
    for subset in combinations(range(n), rank - 1) if rank else ():
        ray = _normal([rows[i] for i in subset], rank)
        sides = [sum(a * b for a, b in zip(row, ray)) for row in rows]
        plus = sum(1 << i for i, side in enumerate(sides) if side > 0)
        minus = sum(1 << i for i, side in enumerate(sides) if side < 0)
        if plus or minus:
            rays |= {(plus, minus), (minus, plus)}
    found = {(0, 0)}
    for _ in range(rank):
        found |= {(p | (q & ~m), m | (k & ~p)) for p, m in found for q, k in rays}
    return found


def _integers(rows):
    """Rows and columns scaled to integers, which changes no set of sign vectors."""
    rows = [[Fraction(float(value)) for value in row] for row in rows]
    sizes = [max((abs(row[j]) for row in rows), default=0) for j in range(len(rows[0]) if rows else 0)]
    scaled = []
    for row in rows:
        row = [value / size if size else value for value, size in zip(row, sizes)]
        shared = lcm(*(value.denominator for value in row))
        row = [int(value * shared) for value in row]
        common = gcd(*row) or 1
        scaled.append([value // common for value in row])
    return scaled


def _independent(rows):
    """The rows with as many columns as their rank, which have the same sign vectors."""
    left, pivots = [[Fraction(value) for value in row] for row in rows], []
    for column in range(len(rows[0]) if rows else 0):
        pivot = next((row for row in left if row[column]), None)
        if pivot is None:
            continue
        pivots.append(column)
        left.remove(pivot)
        left = [[a - b * row[column] / pivot[column] for a, b in zip(row, pivot)] for row in left]
    return [[row[column] for column in pivots] for row in rows]


def _normal(rows, rank):
    """A vector perpendicular to rank - 1 rows: their generalised cross product, zero if they are dependent."""
    columns = range(rank)
    return [(-1) ** j * _determinant([[row[k] for k in columns if k != j] for row in rows]) for j in columns]


def _determinant(rows):
    if not rows:
        return 1
    minors = ([row[:j] + row[j + 1 :] for row in rows[1:]] for j in range(len(rows)))
    return sum((-1) ** j * rows[0][j] * _determinant(minor) for j, minor in enumerate(minors) if rows[0][j])


def orthonormal(vectors):
    """Orthonormal vectors with the span of the first, the first two, ..., and how each combines them; decimals.

    Vectors that depend on those before them add nothing.
    """
    found, combined, kept = [], [], []
    for k, vector in enumerate(vectors):
        combination = np.array([ONE if j == k else ZERO for j in range(len(vectors))], dtype=object)
        size, rest = (vector @ vector).sqrt(), vector
        for _ in range(2):
            for unit, other in zip(found, combined):
                share = unit @ rest
                rest, combination = rest - share * unit, combination - share * other
        length = (rest @ rest).sqrt()
        if length > EXACT * size:
            found.append(rest / length)
            combined.append(combination / length)
            kept.append(k)
    return found, combined, kept


def losses(name, y, z):
    """Losses of the samples as decimals; z has shape (n,), or (n, n_classes)."""
    if name == "multinomial_log_loss":
        own = z[np.arange(len(y)), y]
        top = [max(row) for row in z]
        return np.array([sum((a - m).exp() for a in row).ln() + m - o for row, m, o in zip(z, top, own)], dtype=object)
    if name == "log_loss":
        return np.array([max(-m, ZERO) + ((-abs(m)).exp() + 1).ln() for m in y * z], dtype=object)
    short, r = np.array([max(1 - m, ZERO) for m in y * z], dtype=object), y - z
    if name == "huber":
        m = np.array([min(abs(one), DELTA) for one in r], dtype=object)
        return m * (abs(r) - m / 2)
    return {
        "squared": lambda: r * r / 2,
        "absolute": lambda: abs(r),
        "quantile": lambda: np.array([max(LEVEL * one, (LEVEL - 1) * one) for one in r], dtype=object),
        "hinge": lambda: short,
        "squared_hinge": lambda: short * short,
    }[name]()


@dataclass(frozen=True)
class Setting:
    """A training problem: data, loss, penalties. Only samples of positive weight matter, and only they are given.

    Attributes
    ----------
    X, y, weight : arrays
        y in the coding of the loss.
    loss : str
        A name of convexnn.losses.
    hidden_bias : {"penalized", "free", "none"}
    intercept, skip, gated : bool
    mu : array of shape (n_features,) or None
        Feature penalty.
    n_outputs : int
        More than one for classes.
    """

    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    loss: str
    hidden_bias: str = "penalized"
    intercept: bool = True
    skip: bool = False
    gated: bool = False
    mu: np.ndarray | None = None
    n_outputs: int = 1

    def objective(self, alpha, W, b, a, c=0.0, s=None, gates=None):
        """Objective of an explicit network as a decimal, and its predictions; weights are doubles or decimals.

        ``gates`` is a bool array (n_neurons, n_samples) of open gates.
        """
        with localcontext(PRECISION):
            X, y = exact(self.X), self.y if self.n_outputs > 1 else exact(self.y)
            W, b, a, c = (exact(v) for v in (W, b, a, c))
            before = X @ W.T + b if len(W) else np.zeros((len(X), 0), dtype=object)
            H = np.maximum(before, ZERO) if gates is None else before * np.where(gates.T, ONE, ZERO)
            zero = exact(np.zeros(len(X) if self.n_outputs == 1 else (len(X), self.n_outputs)))
            z = zero + c + (H @ a if len(W) else zero)
            if s is not None:
                z = z + X @ exact(s)
            decay = ZERO + sum((a * a).ravel())
            for w, bias in zip(W, b):
                length = (w @ w + (ZERO if self.hidden_bias == "free" else bias * bias)).sqrt()
                decay += (length + (ZERO if self.mu is None else exact(self.mu) @ abs(w))) ** 2
            total = exact(self.weight) @ losses(self.loss, y, z)
            return total + Decimal(float(alpha)) * decay / 2, z

    def rounding(self, z, summands=ZERO):
        """What the sum of the losses grows by when predictions are eight units in the last place of their size off.

        The size is |z| plus the targets, 1 for classes, plus the summands that predictions were added up from. Losses
        below the smallest normal number are lost as well.
        """
        with localcontext(PRECISION):
            y = self.y if self.n_outputs > 1 else exact(self.y)
            size = abs(z) + (abs(y) if self.loss in REAL else ONE) + summands
            off = 8 * Decimal(2) ** -52 * size
            own = np.eye(self.n_outputs)[y].astype(bool) if self.n_outputs > 1 else True
            off = np.where(own, off, -off)
            moved = np.maximum(losses(self.loss, y, z + off), losses(self.loss, y, z - off))
            return exact(self.weight) @ (moved - losses(self.loss, y, z) + TINY) + TINY


@dataclass
class Neuron:
    """A direction v = (w, b) with Omega(v) = 1, its activations, the sign and the output that it feeds."""

    v: np.ndarray
    activations: np.ndarray
    sign: int
    output: int
    mask: np.ndarray


@dataclass
class Best:
    """The best network that was found.

    Attributes
    ----------
    value : Decimal
        Its objective, from its weights.
    predictions : array of decimals
    weights : dict
        W, b, a, c, s as decimals, and gates for gated networks: arguments of ``Setting.objective``.
    theta : array of float
        Dual point of the last round.
    slack : float
        Largest price at theta, in units of alpha, minus 1: about zero when the search has ended.
    """

    value: Decimal
    predictions: np.ndarray
    weights: dict
    theta: np.ndarray
    slack: float = field(default=np.inf)


class Oracle:
    """The geometry of a setting, and the best network for any alpha."""

    def __init__(self, setting: Setting):
        self.setting = setting
        with localcontext(PRECISION):
            X, n = exact(setting.X), len(setting.X)
            ones = exact(np.ones((n, 1)))
            self.y = setting.y if setting.n_outputs > 1 else exact(setting.y)
            self.rows = X if setting.hidden_bias == "none" else np.hstack([X, ones])
            d = self.rows.shape[1]
            mu = exact(np.zeros(d))
            if setting.mu is not None:
                mu[: setting.X.shape[1]] = exact(setting.mu)
            self.mu, self.charged = mu, [j for j in range(d) if mu[j]]
            free = ([ones] if setting.intercept else []) + ([X] if setting.skip else [])
            columns = list(np.hstack(free).T) if free else []
            units, combinations_, _ = orthonormal(columns)
            self.free = np.array(units, dtype=object).reshape(len(units), n).T
            self.combined = np.array(combinations_, dtype=object).reshape(len(units), len(columns)).T
            self._make_cells()
            self._make_faces()
            self._null = self._master([], ONE)

    # Geometry

    def _make_cells(self):
        """Which samples are active, and the signs of the coordinates that are charged, cell by cell."""
        n, rows = len(self.rows), [[float(v) for v in row] for row in self.rows]
        d, k = len(rows[0]), len(self.charged)
        units = [[float(i == j) for i in range(d)] for j in self.charged]
        if self.setting.gated:
            # A gate on a sample is open: faces have patterns of their own.
            full = sum(1 << i for i in range(n))
            masks = {full & ~minus for _, minus in sign_vectors(rows)}
            cells = {(mask, signs) for mask in masks for signs in product((1, -1), repeat=k)}
        else:
            found = sign_vectors(rows + units)
            support = 0
            for plus, minus in found:
                support |= plus | minus
            cells = {
                (plus & ((1 << n) - 1), tuple(1 if plus >> (n + j) & 1 else -1 for j in range(k)))
                for plus, minus in found
                if plus | minus == support
            }
        cells = sorted(cells)
        self.masks = np.array([[mask >> i & 1 for i in range(n)] for mask, _ in cells], dtype=object)
        self.turns = np.zeros((len(cells), d), dtype=object)
        for row, (_, signs) in zip(self.turns, cells):
            row[self.charged] = signs

    def _make_faces(self):
        """Orthonormal bases of the subspaces in which walls meet, and the rows in their coordinates."""
        rows, (n, d) = self.rows, self.rows.shape
        units = np.array([[ONE if i == j else ZERO for i in range(d)] for j in self.charged], dtype=object)
        everything = np.vstack([rows, units]) if self.charged else rows
        if self.setting.gated:
            bases = [b for b in self._bases(everything, [()] + [(j,) for j in range(n, len(everything))])]
        elif self.setting.hidden_bias != "free":
            rank = len(orthonormal(list(everything))[0])
            walls = [w for size in range(rank) for w in combinations(range(len(everything)), size)]
            bases = self._bases(everything, walls)
        else:
            bases = []
            for i in range(n):
                others = rows[:, :-1] - rows[i, :-1]
                rank = len(orthonormal(list(others))[0])
                walls = [w for size in range(rank) for w in combinations(range(n), size) if i not in w]
                # A bias that puts sample i on the wall.
                bases += [np.vstack([basis, -(rows[i, :-1] @ basis)]) for basis in self._bases(others, walls)]
        self.faces = [(basis, rows @ basis) for basis in bases]
        spans = np.linalg.svd(rows.astype(float), compute_uv=False)
        spans = spans[spans > 1e-14 * spans[0]] if spans[0] else np.ones(1)
        self.plain = bool(spans[0] <= WELL_SCALED * spans[-1] and 1e-50 < spans[0] < 1e50)
        if self.plain:
            self.pricing = [(basis.astype(float), M.astype(float)) for basis, M in self.faces]
        else:
            self.pricing = self.faces

    @staticmethod
    def _bases(rows, walls):
        """For each set of independent walls a basis of what is perpendicular to them, within the space of the rows."""
        found = []
        for wall in walls:
            order = [*wall, *(i for i in range(len(rows)) if i not in wall)]
            units, _, kept = orthonormal([rows[i] for i in order])
            if kept[: len(wall)] == list(range(len(wall))) and len(units) > len(wall):
                found.append(np.array(units[len(wall) :], dtype=object).T)
        return found

    # Prices

    def dearest(self, theta, floor):
        """Neurons of price above floor, dearest first, and the largest price; theta has shape (n, n_outputs)."""
        number = float if self.plain else Decimal
        masks, turns = self.masks, self.turns
        if self.plain:
            masks, turns = masks.astype(float), turns.astype(float)
        size = max(abs(theta.ravel()))
        if not size:
            return [], ZERO
        theta, floor, found, largest = theta / size, floor / size, [], ZERO
        for output, column in enumerate(theta.T):
            for sign in (1,) if self.setting.gated else (1, -1):
                t = sign * (column.astype(float) if self.plain else column)
                price = number(0)
                while True:
                    candidates = self._candidates(t, price, masks, turns)
                    dearest = max((one[0] for one in candidates), default=number(0))
                    if dearest <= price * (1 + number(1e-14)) or not self.charged:
                        break
                    price = dearest
                price = max(price, dearest)
                largest = max(largest, Decimal(price))
                found += [(Decimal(one[0]), sign, output, *one[1:]) for one in candidates if one[0] > number(floor)]
        found.sort(key=lambda one: -one[0])
        neurons, seen = [], set()
        for _, sign, output, face, c, k in found:
            neuron = self._neuron(face, c, k, sign, output)
            key = (sign, output, *(f"{value:.5e}" for value in neuron.activations))
            if key not in seen:
                seen.add(key)
                neurons.append(neuron)
            if len(neurons) == ADDED:
                break
        return neurons, largest * size

    def _candidates(self, t, price, masks, turns):
        """Directions in faces, at least one of them the dearest: price, face, coordinates and cell of each."""
        found, mu = [], self.mu.astype(float) if self.plain else self.mu
        weighted = masks * t
        for face, (basis, M) in enumerate(self.pricing):
            C = weighted @ M
            if self.charged:
                C = C - price * ((turns * mu) @ basis)
            if M.shape[1] == 1 and not self.charged and not self.setting.gated:
                C = np.array([[1.0], [-1.0]]) if self.plain else np.array([[ONE], [-ONE]], dtype=object)
            lengths = np.sqrt(np.sum(C * C, axis=1))
            good = np.flatnonzero(lengths > 0)
            C = C[good] / lengths[good, None]
            H = C @ M.T
            H = H * masks[good] if self.setting.gated else np.maximum(H, 0 * H)
            values = H @ t
            if self.charged:
                values = values / (1 + abs(C @ basis.T) @ mu)
            found += [(value, face, c, k) for value, c, k in zip(values, C, good) if value > 0]
        return found

    def _neuron(self, face, c, k, sign, output):
        basis, _ = self.faces[face]
        v = basis @ exact(c) if self.plain else basis @ c
        counted = v[:-1] if self.setting.hidden_bias == "free" else v
        v = v / ((counted @ counted).sqrt() + self.mu @ abs(v))
        before, mask = self.rows @ v, self.masks[k].astype(bool)
        activations = before * np.where(mask, ONE, ZERO) if self.setting.gated else np.maximum(before, ZERO)
        return Neuron(v, activations, sign, output, mask)

    # Weights

    def _master(self, neurons, alpha):
        """The best amounts of given neurons and of the unpenalised terms, by a conic program.

        Returns an explicit network as in ``Best.weights`` and theta, decimals.
        """
        setting, n, C = self.setting, len(self.rows), self.setting.n_outputs
        real, k = setting.loss in REAL, self.free.shape[1]
        shift = self.free @ (self.free.T @ self.y) if real and k else exact(np.zeros(n))
        r = self.y - shift if real else self.y
        size = max(max(abs(r)), Decimal("1e-300")) if real else ONE
        heavy = max(exact(setting.weight))
        unit = heavy * (size * size if setting.loss == "squared" else size)
        if setting.loss == "huber":
            unit = heavy * size * min(size, DELTA)
        lengths = [max(abs(one.activations)) or ONE for one in neurons]
        costs = [float(alpha * size / length / unit) for length in lengths]
        columns = np.zeros((n * C, len(neurons) + k * C))
        for j, (one, length) in enumerate(zip(neurons, lengths)):
            columns[one.output :: C, j] = [float(one.sign * value / length) for value in one.activations]
        for output in range(C):
            columns[output::C, len(neurons) + output * k : len(neurons) + (output + 1) * k] = self.free.astype(float)
        weight = [float(w / heavy) for w in exact(setting.weight)]
        target = [float(value / size) for value in r]
        curvature = float(size * size * heavy / unit) if setting.loss in ("squared", "huber") else 0.0
        slope = float((DELTA if setting.loss == "huber" else ONE) * size * heavy / unit)
        solved, theta = _solve(setting.loss, columns, costs, weight, target, curvature, slope, C)
        if solved is None:
            solved, theta = np.zeros(columns.shape[1]), np.full((n, C), np.nan)
            return self._explicit(neurons, solved, shift, size, lengths), None
        theta = exact(theta) * unit / size
        if k:
            theta = theta - self.free @ (self.free.T @ theta)
        return self._explicit(neurons, solved, shift, size, lengths), theta

    def _explicit(self, neurons, solved, shift, size, lengths):
        """The balanced network of a solution of the conic program."""
        C, k, d = self.setting.n_outputs, self.free.shape[1], self.setting.X.shape[1]
        amounts = [Decimal(max(float(s), 0.0)) * size / length for s, length in zip(solved, lengths)]
        used = [j for j, amount in enumerate(amounts) if amount > 0]
        biased = self.setting.hidden_bias != "none"
        root = [amounts[j].sqrt() for j in used]
        W = np.array([neurons[j].v[:d] * t for j, t in zip(used, root)], dtype=object).reshape(len(used), d)
        b = np.array([neurons[j].v[d] * t if biased else ZERO for j, t in zip(used, root)], dtype=object)
        a = np.full((len(used), C), ZERO, dtype=object)
        for row, j, t in zip(a, used, root):
            row[neurons[j].output] = neurons[j].sign * t
        beta = exact(solved[len(neurons) :]).reshape(C, k).T * size
        if self.setting.loss in REAL and k:
            beta = beta + (self.free.T @ shift)[:, None]
        free = self.combined @ beta if k else np.zeros((0, C), dtype=object)
        c = free[0] if self.setting.intercept and k else exact(np.zeros(C))
        s = free[int(self.setting.intercept) :] if self.setting.skip and k else None
        if C == 1:
            a, c, s = a[:, 0], c[0] + 0 * ONE, None if s is None else s[:, 0]
            c = np.array(c, dtype=object)
        gates = np.array([neurons[j].mask for j in used], dtype=bool).reshape(len(used), len(self.rows))
        return dict(W=W, b=b, a=a, c=c, s=s, gates=gates if self.setting.gated else None)

    # What is asked for

    @property
    def constant(self):
        """Objective and predictions without neurons."""
        return self.setting.objective(0.0, **self._null[0])

    @property
    def alpha_max(self) -> float:
        """The largest price where there are no neurons; 0 where the unpenalised terms fit to rounding."""
        with localcontext(PRECISION):
            theta = self._null[1]
            if theta is None:
                return 0.0
            return float(self.dearest(theta, Decimal("Infinity"))[1])

    def best(self, alpha: float) -> Best:
        """The best network for alpha that rounds of pricing and solving find."""
        with localcontext(PRECISION):
            alpha, neurons, best = Decimal(float(alpha)), [], None
            for _ in range(ROUNDS):
                weights, theta = self._master(neurons, alpha)
                value, predictions = self.setting.objective(alpha, **weights)
                if best is None or value < best.value:
                    shape = (len(self.rows), self.setting.n_outputs)
                    flat = np.full(shape, np.nan) if theta is None else theta.astype(float)
                    flat = flat[:, 0] if self.setting.n_outputs == 1 else flat
                    best = Best(value, predictions, weights, flat)
                if theta is None:
                    break
                new, price = self.dearest(theta, alpha * (1 + Decimal("1e-13")))
                best.slack = float(price / alpha - 1)
                if best.slack < 1e-10 or not new:
                    break
                neurons = (neurons + new)[-KEPT:]
            return best


class Descent(Oracle):
    """For more samples and features than cells are listed of: L-BFGS on the network's own objective, from a few starts.

    What it ends at is an upper bound of the optimum like any network.
    """

    STARTS, DIRECTIONS, WIDTH = 2, 2000, 8

    def _make_cells(self):
        pass

    def _make_faces(self):
        pass

    @property
    def alpha_max(self) -> float:
        """The largest price of random directions with a wall through a sample, where there are no neurons."""
        theta = self._null[1]
        if theta is None:
            return 0.0
        W, b = self._directions(np.random.default_rng(0), self.DIRECTIONS)
        with np.errstate(all="ignore"):
            H = np.maximum(self.setting.X @ W.T + b, 0.0)
            prices = np.abs(H.T @ theta.astype(float)).max(axis=1) / self._lengths(W, b)[0]
        return float(np.max(prices[np.isfinite(prices)], initial=0.0))

    def _directions(self, rng, count):
        X = self.setting.X
        spread = np.ptp(X, axis=0)
        W = rng.standard_normal((count, X.shape[1])) / np.where(spread > 0, spread, 1.0)
        walls = X[rng.integers(len(X), size=count)]
        return W, -np.sum(W * walls, axis=1) * (self.setting.hidden_bias != "none")

    def _lengths(self, W, b):
        """Omega of neurons, and its slopes in W and b."""
        counted = self.setting.hidden_bias == "penalized"
        lengths = np.sqrt(np.sum(W**2, axis=1) + counted * b**2)
        safe = np.where(lengths > 0, lengths, 1.0)
        mu = np.zeros(W.shape[1]) if self.setting.mu is None else self.setting.mu
        return lengths + np.abs(W) @ mu, W / safe[:, None] + np.sign(W) * mu, counted * b / safe

    def best(self, alpha: float) -> Best:
        """The best network among those that descents end at, and the one without neurons."""
        one, rng = self.setting, np.random.default_rng(0)
        weights, theta = self._null
        value, z = one.objective(alpha, **weights)
        flat = np.zeros((len(one.X), one.n_outputs)) if theta is None else theta.astype(float)
        found = [Best(value, z, weights, flat[:, 0] if one.n_outputs == 1 else flat)]
        for _ in range(self.STARTS):
            weights, theta = self._descend(alpha, rng)
            if all(part is None or np.isfinite(part).all() for part in weights.values()):
                value, z = one.objective(alpha, **weights)
                found.append(Best(value, z, weights, theta))
        return min(found, key=lambda best: best.value)

    def _descend(self, alpha, rng):
        """Weights after L-BFGS from random neurons beside the null model, and minus the gradient at its predictions."""
        one, m, (n, d), C = self.setting, self.WIDTH, self.setting.X.shape, self.setting.n_outputs
        W, b = self._directions(rng, m)
        unit = np.where(np.ptp(one.X, axis=0) > 0, np.ptp(one.X, axis=0), 1.0)
        null = {name: None if part is None else part.astype(float) for name, part in self._null[0].items()}
        size = float(np.ptp(one.y.astype(float))) or 1.0
        feeds = np.eye(C)[np.arange(m) % C]
        start = [W * unit, b, rng.standard_normal(m) / m, np.zeros(C), np.zeros((d, C))]
        cuts = np.cumsum([part.size for part in start])[:-1]

        def parts(p):
            W, b, a, c, s = (part.reshape(like.shape) for part, like in zip(np.split(p, cuts), start))
            linear = 0.0 if null["s"] is None else null["s"].reshape(d, C)
            skip = (linear + size * s / unit[:, None]) if one.skip else np.zeros((d, C))
            return W / unit, b * (one.hidden_bias != "none"), size * a, null["c"] + size * c * one.intercept, skip

        def value(p):
            W, b, a, c, s = parts(p)
            before = one.X @ W.T + b
            H = np.maximum(before, 0.0)
            z = (H * a) @ feeds + c + one.X @ s
            total, slope = _slopes(one.loss, one.y, z if C > 1 else z[:, 0])
            g = (one.weight * slope.T).T.reshape(n, C)
            lengths, along_W, along_b = self._lengths(W, b)
            pull = g @ feeds.T
            back = pull * a * (before > 0)
            gradient = [
                (back.T @ one.X + alpha * lengths[:, None] * along_W) / unit,
                (back.sum(axis=0) + alpha * lengths * along_b) * (one.hidden_bias != "none"),
                size * (np.sum(pull * H, axis=0) + alpha * a),
                size * g.sum(axis=0) * one.intercept,
                size * (one.X.T @ g) / unit[:, None] * one.skip,
            ]
            flat = np.concatenate([part.ravel() for part in gradient])
            height = one.weight @ total + alpha / 2 * (lengths @ lengths + a @ a)
            return height / scale, flat / scale

        scale, p = 1.0, np.concatenate([part.ravel() for part in start])
        with np.errstate(all="ignore"):
            scale = value(p)[0]
            scale = scale if np.isfinite(scale) and scale > 0 else 1.0
            p = minimize(value, p, jac=True, method="L-BFGS-B", options=dict(maxiter=100, ftol=1e-15)).x
            W, b, a, c, s = parts(p)
            z = (np.maximum(one.X @ W.T + b, 0.0) * a) @ feeds + c + one.X @ s
            theta = -(one.weight * _slopes(one.loss, one.y, z if C > 1 else z[:, 0])[1].T).T
        if C > 1:
            return dict(W=W, b=b, a=feeds * a[:, None], c=c, s=s if one.skip else None, gates=None), theta
        return dict(W=W, b=b, a=a, c=np.array(c[0]), s=s[:, 0] if one.skip else None, gates=None), theta


def _slopes(name, y, z):
    """Losses of the samples and a derivative of each, in double precision."""
    if name == "multinomial_log_loss":
        classes = np.eye(z.shape[1])[y]
        return logsumexp(z, axis=1) - np.sum(z * classes, axis=1), softmax(z, axis=1) - classes
    r, margin = y - z, y * z
    delta = float(DELTA)
    return {
        "squared": lambda: (r**2 / 2, -r),
        "huber": lambda: (
            np.where(abs(r) <= delta, r**2 / 2, delta * (abs(r) - delta / 2)),
            -np.clip(r, -delta, delta),
        ),
        "absolute": lambda: (abs(r), -np.sign(r)),
        "quantile": lambda: (abs(r) / 2, -np.sign(r) / 2),
        "log_loss": lambda: (np.logaddexp(0, -margin), -y * expit(-margin)),
        "squared_hinge": lambda: (np.maximum(1 - margin, 0) ** 2, -2 * y * np.maximum(1 - margin, 0)),
        "hinge": lambda: (np.maximum(1 - margin, 0), -y * (margin < 1.0)),
    }[name]()


def _solve(loss, columns, costs, weight, target, curvature, slope, C):
    """min sum_i weight_i l(target_i, z_i) + costs^T s, z = columns (s, beta), s >= 0; the solution and theta.

    ``curvature`` and ``slope`` are those of the scaled loss. None when the solver gives no finite point.
    """
    (nC, m), n, free = columns.shape, columns.shape[0] // C, len(costs)
    entries, cones, P, q = [], [], [0.0] * (m + nC), [*costs] + [0.0] * (m - free + nC)
    rhs = []

    def row(coefficients, right):
        entries.extend((len(rhs), j, value) for j, value in coefficients if value)
        rhs.append(right)

    def variable(cost=0.0, square=0.0):
        P.append(square)
        q.append(cost)
        return len(P) - 1

    for i in range(nC):
        row([*enumerate(columns[i]), (m + i, -1.0)], 0.0)
    equal, signed, bounded, exponentials = [], list(range(free)), [], []
    for i in range(n):
        w, z, y = weight[i], m + i, target[i]
        if loss in REAL:
            # z - y = a + p - q: a costs a square, p and q their sizes.
            parts = [(z, 1.0)]
            if loss in ("squared", "huber"):
                parts.append((variable(0.0, w * curvature), -1.0))
            if loss != "squared":
                share = 0.5 if loss == "quantile" else 1.0
                both = [variable(w * slope * share), variable(w * slope * share)]
                signed += both
                parts += [(both[0], -1.0), (both[1], 1.0)]
            equal.append((parts, y))
        elif loss in ("hinge", "squared_hinge"):
            over, under = variable(*((w, 0.0) if loss == "hinge" else (0.0, 2 * w))), variable()
            signed += [over, under]
            equal.append(([(z, y), (over, 1.0), (under, -1.0)], 1.0))
        else:
            top = variable(w)
            if C == 1:
                logits = [[], [(z, -y)]]
            else:
                own = m + i * C + int(y)
                logits = [[] if m + i * C + c == own else [(m + i * C + c, 1.0), (own, -1.0)] for c in range(C)]
            shares = [variable() for _ in logits]
            bounded.append([(share, 1.0) for share in shares])
            exponentials += [([*logit, (top, -1.0)], share) for logit, share in zip(logits, shares)]
    for parts, right in equal:
        row(parts, right)
    cones.append(clarabel.ZeroConeT(len(rhs)))
    for j in signed:
        row([(j, -1.0)], 0.0)
    for parts in bounded:
        row(parts, 1.0)
    if len(signed) + len(bounded):
        cones.append(clarabel.NonnegativeConeT(len(signed) + len(bounded)))
    for parts, share in exponentials:
        row([(j, -value) for j, value in parts], 0.0)
        row([], 1.0)
        row([(share, -1.0)], 0.0)
        cones.append(clarabel.ExponentialConeT())
    rows_, cols, values = zip(*entries)
    A = csc_array((values, (rows_, cols)), shape=(len(rhs), len(P)))
    square = csc_array((P, (range(len(P)), range(len(P)))), shape=(len(P), len(P)))
    settings = clarabel.DefaultSettings()
    settings.verbose, settings.max_iter, settings.max_threads = False, 100, 1
    settings.tol_gap_abs, settings.tol_gap_rel, settings.tol_feas = 1e-15, 1e-14, 1e-13
    try:
        solution = clarabel.DefaultSolver(square, np.array(q), A, np.array(rhs), cones, settings).solve()
    except BaseException as error:  # Rust's panics are no exceptions of Python's.
        if isinstance(error, KeyboardInterrupt):
            raise
        return None, None
    x, dual = np.array(solution.x), np.array(solution.z)
    if not (np.isfinite(x).all() and np.isfinite(dual).all()):
        return None, None
    return x[:m], -dual[:nC].reshape(n, C)
