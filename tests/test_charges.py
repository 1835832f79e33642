import numpy as np
import pytest

from convexnn.proofs.charges import bound_charged_price, highest_price
from convexnn.search.prices import Price


def draw(seed, n=15):
    """Rows with a ones column, a dual variable, costs, and the highest price of very many random sparse vectors."""
    rng = np.random.default_rng(seed)
    X, t = np.column_stack([rng.standard_normal((n, 2)), np.ones(n)]), rng.standard_normal(n)
    mu = np.array([0.4, 1.1, 0.0])
    U = rng.standard_normal((200_000, 3)) * (rng.random((200_000, 3)) < 0.7)
    norms = np.linalg.norm(U, axis=1) + np.abs(U) @ mu
    return X, t, mu, np.max(np.maximum(X @ U.T, 0).T @ t / np.where(norms > 0, norms, 1.0))


@pytest.mark.parametrize("seed", range(4))
def test_every_charge_gives_a_bound_and_the_highest_price_a_tight_one(seed):
    X, t, mu, highest = draw(seed)
    for charge in (0.0, 0.5 * highest, highest, 2.0 * highest):
        tree = bound_charged_price(Price(X, t), mu, target=charge, accuracy=1e-3)
        assert tree.bound >= highest and tree.n_cones > 0
        assert charge != highest or tree.bound <= 1.01 * highest
        assert np.isclose(tree.check(Price(X, t)), tree.bound, rtol=1e-9)
        assert np.isclose(tree.scaled(0.3).check(Price(X, 0.3 * t)), 0.3 * tree.bound, rtol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_highest_price_is_found(seed):
    X, t, mu, highest = draw(seed)
    found = highest_price(Price(X, t), mu)
    assert highest * (1 - 1e-6) <= found <= 1.01 * highest
    assert highest_price(Price(X, t), mu, np.eye(3)) >= highest * (1 - 1e-6)
    assert highest_price(Price(X, -np.abs(t)), mu) == 0.0


def test_no_penalty_is_the_plain_bound():
    X, t, mu, _ = draw(5)
    U = np.random.default_rng(0).standard_normal((200_000, 3))
    highest = np.max(np.maximum(X @ U.T, 0).T @ t / np.linalg.norm(U, axis=1))
    assert highest <= bound_charged_price(Price(X, t), 0 * mu, target=0.0).bound <= 1.01 * highest


def test_rows_of_the_charges():
    charged = Price(np.array([[1.0, 2.0, 1.0]]), np.array([3.0])).charged(np.array([0.5, 0.0, 2.0]))
    X, t = charged.X, charged.t
    assert X.tolist() == [[1, 2, 1], [1, 0, 0], [0, 0, 1], [-1, 0, 0], [0, 0, -1]]
    assert t.tolist() == [3.0, -0.5, -2.0, -0.5, -2.0]
    u = np.array([-2.0, 5.0, 3.0])
    assert np.isclose(np.maximum(X @ u, 0)[1:] @ t[1:], -0.5 * 2.0 - 2.0 * 3.0)
