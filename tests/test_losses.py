import cvxpy as cp
import numpy as np
import pytest
from scipy.special import softmax

from convexnn.losses import LOSSES, Huber, LogLoss, MultinomialLogLoss, Quantile, Squared, get_loss

SMOOTH = [name for name in LOSSES if np.isfinite(LOSSES[name].lipschitz)]
SETTINGS = {
    "huber": [Huber(), Huber(delta=0.3)],
    "quantile": [Quantile(), Quantile(q=0.1), Quantile(q=0.9)],
}
INSTANCES = [loss for name in LOSSES for loss in SETTINGS.get(name, [LOSSES[name]()])]
SMOOTH_INSTANCES = [loss for loss in INSTANCES if loss.name in SMOOTH]
N, C = 40, 3


def outputs(loss):
    return (N, C) if loss.name == "multinomial_log_loss" else (N,)


def draw(rng, loss, make_target, scale=2.0):
    return make_target(rng, loss, N, C), scale * rng.standard_normal(outputs(loss))


def inner(a, b):
    return (a * b).reshape(len(a), -1).sum(axis=1)


def draw_dual(rng, loss, y):
    """Points of the conjugate's domain: -1 to 1 times the class for signs, simplex minus a unit vector for classes."""
    if loss.name == "multinomial_log_loss":
        return softmax(3 * rng.standard_normal((N, C)), axis=1) - np.eye(C)[y]
    u = rng.uniform(0, 1, N)
    return {
        "squared": 6 * u - 3,
        "huber": (2 * u - 1) * getattr(loss, "delta", 1.0),
        "log_loss": -y * u,
        "squared_hinge": -5 * y * u,
        "hinge": -y * u,
        "absolute": 2 * u - 1,
        "quantile": u - getattr(loss, "q", 0.5),
    }[loss.name]


@pytest.mark.parametrize("loss", INSTANCES, ids=repr)
def test_gradient_is_the_derivative(loss, make_target):
    y, z = draw(np.random.default_rng(0), loss, make_target)
    gradient, h = loss.gradient(y, z), 1e-6
    assert gradient.shape == z.shape and loss.value(y, z).shape == (N,)
    for direction in np.eye(C) if z.ndim > 1 else [1.0]:
        slope = (loss.value(y, z + h * direction) - loss.value(y, z - h * direction)) / (2 * h)
        # Central differences err by h^2 and by eps / h; at a kink of the gradient within h, by h.
        assert np.allclose(slope, inner(gradient, np.broadcast_to(direction, z.shape)), atol=1e-5)


@pytest.mark.parametrize("loss", SMOOTH_INSTANCES, ids=repr)
def test_hessian_is_the_second_derivative(loss, make_target):
    y, z = draw(np.random.default_rng(1), loss, make_target)
    hessian, h = loss.hessian(y, z), 1e-6
    if z.ndim == 1:
        assert hessian.shape == (N,)
        assert np.allclose((loss.gradient(y, z + h) - loss.gradient(y, z - h)) / (2 * h), hessian, atol=1e-6)
        return
    assert hessian.shape == (N, C, C)
    for j, direction in enumerate(np.eye(C)):
        slope = (loss.gradient(y, z + h * direction) - loss.gradient(y, z - h * direction)) / (2 * h)
        assert np.allclose(slope, hessian[:, :, j], atol=1e-6)


@pytest.mark.parametrize("loss", SMOOTH_INSTANCES, ids=repr)
def test_lipschitz_bounds_hessian_and_gradient(loss, make_target):
    rng = np.random.default_rng(2)
    for scale in (0.01, 1.0, 10.0):
        y, a = draw(rng, loss, make_target, scale)
        b = a + scale * rng.standard_normal(a.shape)
        change = np.linalg.norm((loss.gradient(y, a) - loss.gradient(y, b)).reshape(N, -1), axis=1)
        length = np.linalg.norm((a - b).reshape(N, -1), axis=1)
        assert np.all(change <= loss.lipschitz * length * (1 + 1e-9))
        eigenvalues = np.linalg.eigvalsh(loss.hessian(y, a).reshape(N, *[int(a.size / N)] * 2))
        assert np.all(eigenvalues <= loss.lipschitz * (1 + 1e-12))
        assert np.all(eigenvalues >= -1e-12)


def test_lipschitz_constants_are_attained():
    y = np.array([0.0])
    assert Squared().hessian(y, y) == Squared.lipschitz
    assert LogLoss().hessian(np.array([1.0]), y) == LogLoss.lipschitz
    even = np.array([[0.0, 0.0]])
    assert np.linalg.eigvalsh(MultinomialLogLoss().hessian(np.array([0]), even)).max() == MultinomialLogLoss.lipschitz


@pytest.mark.parametrize("loss", INSTANCES, ids=repr)
def test_convexity(loss, make_target):
    rng = np.random.default_rng(3)
    y, a = draw(rng, loss, make_target)
    b = 2 * rng.standard_normal(a.shape)
    for share in (0.1, 0.5, 0.8):
        chord = share * loss.value(y, a) + (1 - share) * loss.value(y, b)
        assert np.all(loss.value(y, share * a + (1 - share) * b) <= chord + 1e-12)
    assert np.all(loss.value(y, b) >= loss.value(y, a) + inner(loss.gradient(y, a), b - a) - 1e-12)


@pytest.mark.parametrize("loss", INSTANCES, ids=repr)
@pytest.mark.parametrize("scale", [0.1, 2.0, 30.0])
def test_fenchel_young_equality_at_the_gradient(loss, scale, make_target):
    y, z = draw(np.random.default_rng(4), loss, make_target, scale)
    t = loss.gradient(y, z)
    value, conjugate, product = loss.value(y, z), loss.conjugate(y, t), inner(t, z)
    size = 1 + np.abs(value) + np.abs(product)
    # p = 1 - exp(-|z|) is held to 1e-16, which the conjugate's slope log p - log (1 - p) <= 37 multiplies.
    assert np.all(np.abs(value + conjugate - product) <= 1e-12 * size)


@pytest.mark.parametrize("loss", INSTANCES, ids=repr)
def test_fenchel_young_inequality_elsewhere(loss, make_target):
    rng = np.random.default_rng(5)
    for _ in range(20):
        y, z = draw(rng, loss, make_target)
        t = draw_dual(rng, loss, y)
        conjugate = loss.conjugate(y, t)
        assert np.isfinite(conjugate).all()
        assert np.all(loss.value(y, z) + conjugate >= inner(t, z) - 1e-12)


@pytest.mark.parametrize("loss", [loss for loss in INSTANCES if loss.name != "multinomial_log_loss"], ids=repr)
def test_conjugate_is_the_supremum(loss, make_target):
    rng = np.random.default_rng(6)
    y = make_target(rng, loss, N)
    t = draw_dual(rng, loss, y)
    grid = np.linspace(-40, 40, 80_001)
    best = np.array([(ti * grid - loss.value(np.full_like(grid, yi), grid)).max() for yi, ti in zip(y, t)])
    conjugate = loss.conjugate(y, t)
    # The grid's step is 1e-3; |t| <= 5 and Hessians of at most 2 give 5e-3 at a kink and less elsewhere. The log
    # loss near the ends of its domain takes its supremum at log(u / (1 - u)), inside the grid for these draws.
    assert np.all(best <= conjugate + 1e-9)
    assert np.all(best >= conjugate - 5e-3)


OUTSIDE = {
    "huber": (0.0, 1.36),
    "log_loss": (1.0, 0.01),
    "squared_hinge": (1.0, 0.01),
    "hinge": (1.0, -1.01),
    "absolute": (0.0, -1.01),
    "quantile": (0.0, 0.51),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_conjugate_is_infinite_outside_its_domain(name):
    y, t = OUTSIDE[name]
    assert LOSSES[name]().conjugate(np.array([y]), np.array([t])) == np.inf


def test_multinomial_conjugate_is_infinite_outside_its_domain():
    y = np.array([0, 0])
    t = np.array([[-0.5, 0.6, -0.1], [-0.5, 0.4, 0.2]])
    assert np.all(MultinomialLogLoss().conjugate(y, t) == np.inf)


@pytest.mark.parametrize("loss", INSTANCES, ids=repr)
def test_extreme_predictions_stay_finite(loss, make_target):
    rng = np.random.default_rng(7)
    y, z = draw(rng, loss, make_target, 1000.0)
    assert np.isfinite(loss.value(y, z)).all()
    assert np.isfinite(loss.gradient(y, z)).all()
    assert np.isfinite(loss.hessian(y, z)).all()
    assert not np.isnan(loss.conjugate(y, loss.gradient(y, z))).any()


@pytest.mark.parametrize("loss", INSTANCES, ids=repr)
def test_cvxpy_expression_has_the_same_value(loss, make_target):
    y, z = draw(np.random.default_rng(8), loss, make_target)
    variable = cp.Variable(z.shape, value=z)
    expression = loss.cvxpy(y, variable)
    assert expression.shape == (N,) and expression.is_convex()
    assert np.allclose(expression.value, loss.value(y, z), rtol=1e-12, atol=1e-12)


def test_values_by_hand():
    one = np.array([1.0])
    assert LOSSES["squared"]().value(one, 3 * one) == 2.0
    assert Huber(delta=0.5).value(one, 3 * one) == 0.5 * 2 - 0.125
    assert LOSSES["log_loss"]().value(one, 0 * one) == np.log(2)
    assert LOSSES["squared_hinge"]().value(-one, 0.5 * one) == 2.25
    assert LOSSES["hinge"]().value(-one, 0.5 * one) == 1.5
    assert LOSSES["absolute"]().value(one, -one) == 2.0
    assert Quantile(q=0.9).value(one, 0 * one) == 0.9
    assert np.isclose(Quantile(q=0.9).value(one, 2 * one), 0.1)
    assert np.isclose(MultinomialLogLoss().value(np.array([1]), np.zeros((1, 4))), np.log(4))


@pytest.mark.parametrize("name", [name for name in LOSSES if name in ("log_loss", "squared_hinge", "hinge")])
def test_sign_targets(name):
    loss = LOSSES[name]()
    assert np.array_equal(loss.check_target([0, 1, 1]), [-1.0, 1.0, 1.0])
    assert np.array_equal(loss.check_target([-1, 1]), [-1.0, 1.0])
    assert np.array_equal(loss.check_target([True, False]), [1.0, -1.0])
    for bad in ([0, 1, 2], [-1, 0, 1], [0.5, 1]):
        with pytest.raises(ValueError, match=r"y must hold -1 and \+1 \(or 0 and 1\)"):
            loss.check_target(bad)


def test_class_targets():
    loss = MultinomialLogLoss()
    assert loss.check_target([0.0, 2.0, 1.0]).dtype.kind == "i"
    for bad in ([0, -1], [0.5, 1.0]):
        with pytest.raises(ValueError, match="y must hold class indices"):
            loss.check_target(bad)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("bad", [[[1.0], [0.0]], [1.0, np.nan], [np.inf, 0.0], ["a", "b"], 3.0])
def test_targets_that_no_loss_accepts(name, bad):
    with pytest.raises(ValueError, match=r"y must be a (finite|numeric) vector"):
        LOSSES[name]().check_target(bad)


@pytest.mark.parametrize("name", LOSSES)
def test_target_says_what_is_accepted(name):
    loss = LOSSES[name]()
    assert loss.target in ("real", "signs", "classes")
    for kind, y in {"real": [0.3, -1.7], "signs": [-1, 1], "classes": [0, 1, 2]}.items():
        if kind == loss.target or loss.target == "real":
            loss.check_target(y)
        else:
            with pytest.raises(ValueError, match="y must hold"):
                loss.check_target(y)


@pytest.mark.parametrize("delta", [0.0, -1.0, np.inf, np.nan])
def test_huber_rejects_delta(delta):
    with pytest.raises(ValueError, match="delta must be positive and finite"):
        Huber(delta=delta)


@pytest.mark.parametrize("q", [0.0, 1.0, -0.5, np.nan])
def test_quantile_rejects_level(q):
    with pytest.raises(ValueError, match="q must be strictly between 0 and 1"):
        Quantile(q=q)


@pytest.mark.parametrize("name", LOSSES)
def test_get_loss_by_name(name):
    loss = get_loss(name)
    assert type(loss) is LOSSES[name] and loss.name == name
    assert get_loss(loss) is loss
    assert hash(loss) == hash(LOSSES[name]())


def test_get_loss_of_several_outputs():
    assert isinstance(get_loss("log_loss", n_outputs=3), MultinomialLogLoss)
    assert isinstance(get_loss("log_loss", n_outputs=1), LogLoss)
    assert get_loss(Huber(delta=0.5)).delta == 0.5


@pytest.mark.parametrize("bad", ["mse", 3, None, Huber])
def test_get_loss_rejects(bad):
    with pytest.raises(ValueError, match=r"loss must be one of .*'squared'"):
        get_loss(bad)


# Lower bounds rest on conjugates that are infinite beyond their domain, and finite at its edge but for rounding.


@pytest.mark.parametrize("outside", [1e-9, 1e-12, 3e-14])
@pytest.mark.parametrize("delta", [1e-8, 0.3, 1.35, 1e8])
def test_a_hair_outside_its_domain_a_conjugate_is_infinite(delta, outside):
    y = np.zeros(2)
    assert np.all(Huber(delta).conjugate(y, delta * (1 + outside) * np.array([1.0, -1.0])) == np.inf)
    for q in (0.1, 0.5, 0.9):
        assert np.all(Quantile(q).conjugate(y, (1 + outside) * np.array([1 - q, -q])) == np.inf)
    # A sum beyond 1, and a negative share.
    t = np.array([[0.4 + 20 * outside, 0.3, 0.3], [0.7 + outside, 0.3, -outside]]) - np.eye(3)[[0, 1]]
    assert np.all(MultinomialLogLoss().conjugate(np.array([0, 1]), t) == np.inf)


def test_at_the_edge_of_its_domain_a_conjugate_is_finite_after_rounding():
    """theta / s times s, sums of shares: what a solver's dual point went through."""
    s = np.random.default_rng(0).uniform(0.1, 10, 10_000)
    deltas = np.linspace(0.1, 2, 39)
    assert np.any(s[:, None] * deltas / s[:, None] > deltas)
    for delta in deltas:
        for sign in (1.0, -1.0):
            assert np.isfinite(Huber(delta).conjugate(np.zeros_like(s), sign * (s * delta) / s)).all()
    for q in np.linspace(0.05, 0.95, 19):
        for edge in (-q, 1 - q):
            assert np.isfinite(Quantile(q).conjugate(np.zeros_like(s), s * edge / s)).all()
    for n_classes in (3, 30):
        p = softmax(3 * np.random.default_rng(1).standard_normal((1000, n_classes)), axis=1)
        y = np.arange(1000) % n_classes
        t = s[:1000, None] * (p - np.eye(n_classes)[y]) / s[:1000, None]
        # Shares that rounding does not make negative.
        assert np.isfinite(MultinomialLogLoss().conjugate(y, t)[(t + np.eye(n_classes)[y]).min(axis=1) >= 0]).all()
