"""celer 0.7.4: GroupLasso on the gated problem, whose matrix it gets whole, in an environment of its own."""

from __future__ import annotations

from benchmarks.environments import serve
from benchmarks.rivals import skglm_

PINS = ["celer==0.7.4", "numpy==2.4.6", "scipy==1.17.1", "scikit-learn==1.9.1"]


def convex(program, args):
    """As for skglm, whose estimator has the same form."""
    yield from skglm_.convex(program, args, __name__, "celer", PINS)


def fit(matrix, y, lam, size, tol):
    """Coefficients of one solve."""
    import warnings

    from celer import GroupLasso

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = GroupLasso(groups=size, alpha=lam, tol=tol, max_iter=1000, fit_intercept=False)
        return model.fit(matrix, y).coef_


if __name__ == "__main__":
    serve(lambda data: skglm_.race(data, fit))
