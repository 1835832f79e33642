"""The oracle of the attack: against hand-computable problems, other arithmetic and the textbook program."""

import sys
from decimal import Decimal, localcontext
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linprog

ROOT = Path(__file__).parent.parent
if not (ROOT / "benchmarks" / "oracle.py").exists():
    pytest.skip("benchmarks are in the checkout only", allow_module_level=True)
sys.path.insert(0, str(ROOT))

from benchmarks.oracle import (  # noqa: E402
    CLASSES,
    PRECISION,
    REAL,
    SIGNS,
    Descent,
    Oracle,
    Setting,
    _slopes,
    exact,
    losses,
    orthonormal,
    sign_vectors,
)


def setting(X, y, loss="squared", **options):
    X = np.asarray(X, dtype=float)
    C = 3 if loss in CLASSES else 1
    return Setting(X, np.asarray(y), np.ones(len(X)), loss, n_outputs=C, **options)


def cells(rows):
    return [one for one in sign_vectors(rows) if (one[0] | one[1]).bit_count() == len(rows)]


def test_sign_vectors_of_small_arrangements():
    assert sign_vectors([[2.0], [-3.0], [0.0]]) == {(0, 0), (0b01, 0b10), (0b10, 0b01)}
    # Three lines through the origin of the plane: six sectors, six rays, the origin.
    three = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    assert len(sign_vectors(three)) == 13 and len(cells(three)) == 6
    # Zariski: n planes in general position in space cut it into n^2 - n + 2 cells.
    rng = np.random.default_rng(0)
    for n in range(3, 8):
        assert len(cells(rng.standard_normal((n, 3)))) == n * n - n + 2
    assert sign_vectors([[0.0]]) == {(0, 0)}


def test_sign_vectors_see_one_unit_in_the_last_place():
    near = [[1e12, 1.0], [np.nextafter(1e12, np.inf), 1.0], [1e12 + 1, 1.0]]
    assert len(cells(near)) == 6
    assert len(sign_vectors([[1e12, 1.0]] * 3)) == 3
    scaled = [[1e150 * a, 1e-150 * b] for a, b in near]
    assert sign_vectors(scaled) == sign_vectors(near)


def test_cells_are_those_of_linear_programs():
    rng = np.random.default_rng(1)
    rows = np.column_stack([rng.integers(-2, 3, (6, 2)), np.ones(6)])
    found = set()
    for signs in product([1.0, -1.0], repeat=6):
        B = np.array(signs)[:, None] * rows
        A, bounds = np.column_stack([-B, np.ones(6)]), [(-1, 1)] * 3 + [(None, 1)]
        room = linprog([0.0, 0.0, 0.0, -1.0], A, np.zeros(6), bounds=bounds).x
        if room is not None and room[-1] > 1e-9:
            plus = sum(1 << i for i, sign in enumerate(signs) if sign > 0)
            found.add((plus, 0b111111 & ~plus))
    assert set(cells(rows)) == found


def test_orthonormal_vectors():
    X = exact([[1.0, 1.0 + 2.0**-52], [1.0, 1.0], [1.0, 1.0]])
    vectors = [X[:, 0], 2 * X[:, 0], X[:, 1]]
    with localcontext(PRECISION):
        units, combined, kept = orthonormal(vectors)
        assert kept == [0, 2] and abs(units[0] @ units[1]) < Decimal("1e-90")
        assert max(abs(units[1] - np.column_stack(vectors) @ combined[1])) < Decimal("1e-90")


@pytest.mark.parametrize("loss", REAL + SIGNS + CLASSES)
def test_losses_are_those_of_the_package(loss):
    from convexnn.losses import LOSSES

    rng = np.random.default_rng(0)
    z = 3 * rng.standard_normal((9, 3) if loss in CLASSES else 9)
    y = np.arange(9) % 3 if loss in CLASSES else np.sign(z) * (-1) ** np.arange(9) if loss in SIGNS else np.arange(9.0)
    found = losses(loss, y if loss in CLASSES else exact(y), exact(z)).astype(float)
    assert np.allclose(found, LOSSES[loss]().value(y, z), rtol=1e-14)


def test_objective_of_an_explicit_network():
    one = setting([[1.0], [2.0]], [1.0, 0.0], mu=np.array([0.5]))
    # f = 2 (x - 1)_+ + 1: predictions 1 and 3; Omega(1, -1) = sqrt 2 + 1 / 2.
    value, z = one.objective(0.1, np.ones((1, 1)), -np.ones(1), np.array([2.0]), 1.0)
    assert z.tolist() == [1, 3]
    assert np.isclose(float(value), 4.5 + 0.05 * ((np.sqrt(2) + 0.5) ** 2 + 4), rtol=1e-15)
    free = setting([[1.0], [2.0]], [1.0, 0.0], hidden_bias="free")
    assert np.isclose(float(free.objective(0.1, np.ones((1, 1)), -np.ones(1), np.array([2.0]), 1.0)[0]), 4.75)


@pytest.mark.parametrize("scale", [1e-150, 1.0, 1e150])
def test_one_sample(scale):
    """(y - s)^2 / 2 + alpha s is least at s = y - alpha, and |y - s| + alpha s at s = y for alpha < 1."""
    plain = dict(hidden_bias="none", intercept=False)
    one = Oracle(setting([[1.0]], [scale], **plain))
    assert np.isclose(one.alpha_max, scale, rtol=1e-12)
    assert np.isclose(float(one.best(0.25 * scale).value) / scale, (0.25 - 0.03125) * scale, rtol=1e-10)
    assert np.isclose(float(one.best(2 * scale).value) / scale, scale / 2, rtol=1e-12)
    far = Oracle(setting([[1.0]], [scale], "absolute", **plain))
    assert np.isclose(float(far.best(0.25).value), 0.25 * scale, rtol=1e-12)


def test_the_inputs_of_false_bounds():
    X = 1e5 + np.array([[-1.5], [-0.5], [0.6], [1.1]])
    one = Oracle(setting(X, [1.0, 2.0, 3.0, 4.0], intercept=False, mu=np.ones(1)))
    assert float(one.best(5e4).value) < 4.8750
    gate = Oracle(setting([[-1.0], [1.0]], [-1.0, 1.0], hidden_bias="none", intercept=False, gated=True))
    assert np.isclose(float(gate.best(0.5).value), 0.4375, rtol=1e-12)


def test_offsets_do_not_matter_where_nothing_counts_them():
    """A free bias takes the offset of a feature, an intercept that of the target."""
    x, y = np.arange(6.0)[:, None], np.array([0.0, 2.0, 1.0, 0.0, 3.0, 1.0])
    shifts = product((0.0, 2.0**40), repeat=2)
    values = [float(Oracle(setting(x + a, y + b, hidden_bias="free")).best(0.3).value) for a, b in shifts]
    assert np.allclose(values, values[0], rtol=1e-9)


@pytest.mark.parametrize("loss", REAL + SIGNS + CLASSES)
@pytest.mark.parametrize(
    "options", [dict(), dict(hidden_bias="none", mu=np.array([0.5, 0.0])), dict(hidden_bias="free")]
)
def test_no_descent_ends_below_the_oracle_and_one_comes_near(loss, options):
    rng = np.random.default_rng(0)
    y = rng.standard_normal(7) if loss in REAL else np.arange(7) % 3 if loss in CLASSES else (-1.0) ** np.arange(7)
    one = setting(rng.standard_normal((7, 2)), y, loss, **options)
    oracle, descent = Oracle(one), Descent(one)
    assert 0.9 * oracle.alpha_max <= descent.alpha_max <= oracle.alpha_max * (1 + 1e-12)
    alpha = 0.1 * oracle.alpha_max
    best, end = oracle.best(alpha), descent.best(alpha)
    assert best.slack <= 1e-7
    # Descents stop at kinks.
    kinks = loss in ("absolute", "quantile", "hinge")
    assert best.value * (1 - Decimal("1e-9")) <= end.value <= best.value * Decimal(5 if kinks else 1.1)


@pytest.mark.parametrize("loss", REAL + SIGNS + CLASSES)
def test_slopes_of_descents(loss):
    rng = np.random.default_rng(0)
    C = 3 if loss in CLASSES else 1
    y = rng.standard_normal(9) if loss in REAL else np.arange(9) % 3 if C > 1 else (-1.0) ** np.arange(9)
    z, v = rng.standard_normal((2, 9, C)) if C > 1 else rng.standard_normal((2, 9))
    ahead, behind = (_slopes(loss, y, z + h * v)[0] for h in (1e-6, -1e-6))
    slopes = v * _slopes(loss, y, z)[1]
    assert np.allclose((ahead - behind) / 2e-6, slopes.sum(axis=1) if C > 1 else slopes, atol=1e-6)


def conjugate(loss, y, t):
    """sup over z of t z - l(y, z), for the losses whose dual needs no logarithm."""
    return {
        "squared": lambda: t * (t / 2 + y),
        "huber": lambda: np.where(abs(t) <= 1.35 + 1e-9, t * (t / 2 + y), np.inf),
        "absolute": lambda: np.where(abs(t) <= 1 + 1e-9, t * y, np.inf),
        "quantile": lambda: np.where(abs(t) <= 0.5 + 1e-9, t * y, np.inf),
        "hinge": lambda: np.where((y * t <= 1e-9) & (y * t >= -1 - 1e-9), y * t, np.inf),
        "squared_hinge": lambda: np.where(y * t <= 1e-9, y * t + t * t / 4, np.inf),
    }[loss]()


@pytest.mark.parametrize("loss", ["squared", "huber", "absolute", "quantile", "hinge", "squared_hinge"])
@pytest.mark.parametrize("hidden_bias", ["penalized", "free", "none"])
@pytest.mark.parametrize("mu", [None, np.array([0.5, 0.0])])
def test_dual_values_meet_the_oracle(loss, hidden_bias, mu):
    """Where no price is above alpha the dual value of theta is a lower bound: the oracle is the optimum."""
    rng = np.random.default_rng(3)
    if hidden_bias == "free" and mu is not None:
        return
    y = rng.standard_normal(7) if loss in REAL else np.where(np.arange(7) % 2, 1.0, -1.0)
    oracle = Oracle(setting(rng.standard_normal((7, 2)), y, loss, hidden_bias=hidden_bias, mu=mu))
    alpha = 0.2 * oracle.alpha_max
    best = oracle.best(alpha)
    assert best.slack <= 1e-8
    bound = -np.sum(conjugate(loss, y, -best.theta / (1 + max(best.slack, 0.0))))
    assert np.isclose(float(best.value), bound, rtol=1e-7)
