"""
How good is a trained MLP?
==========================

``MLPRegressor`` minimises a function that has local minima and ends where its solver stops. Here many of them are
trained on the same data, and each is compared with a lower bound that no two-layer ReLU network of any width can beat.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

from convexnn import ConvexReLURegressor, audit

rng = np.random.default_rng(0)
X = rng.standard_normal((60, 2))
y = np.sin(2 * X[:, 0]) * np.cos(X[:, 1]) + 0.1 * rng.standard_normal(60)
alpha = 0.5

# %%
# One network, audited
# --------------------
# ``audit`` evaluates the network as a solution of its own training problem, polishes it over its own activation
# patterns, searches all patterns for a better one, and proves a bound.

warnings.simplefilter("ignore", ConvergenceWarning)  # Adam is stopped by max_iter
options = dict(alpha=alpha, batch_size=len(y), max_iter=1000)
mlp = MLPRegressor(hidden_layer_sizes=(100,), solver="adam", random_state=0, **options).fit(X, y)
print(audit(mlp, X, y, alpha=alpha, improve=True, max_time=10))

# %%
# Many networks
# -------------
# The best network is found once. scikit-learn leaves hidden biases out of the weight decay, which is
# ``hidden_bias="free"``, and its alpha is ours when a batch holds all rows.

best = ConvexReLURegressor(alpha, hidden_bias="free", certify=True, max_time=20, random_state=0).fit(X, y)
print(best.certificate_)
bound = best.certificate_.lower_bound

widths, seeds, excess = (30, 100, 300), range(3), {}
for solver in ("lbfgs", "adam"):
    for width in widths:
        for seed in seeds:
            mlp = MLPRegressor(hidden_layer_sizes=(width,), solver=solver, random_state=seed, **options).fit(X, y)
            objective = audit(mlp, X, y, alpha=alpha, certify=False).objective
            excess[solver, width, seed] = 100 * (objective / bound - 1)

# %%
# The vertical axis is how far each is above the lower bound. The line is the convex fit, which has no seed that matters
# and no width: its distance is what could not be proved.

fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for shift, (solver, marker) in enumerate([("lbfgs", "o"), ("adam", "s")]):
    for place, width in enumerate(widths):
        values = [excess[solver, width, seed] for seed in seeds]
        label = f"MLPRegressor, {solver}" if place == 0 else None
        ax.plot(
            np.full(len(values), place + 0.2 * shift - 0.1), values, marker, color=f"C{shift}", alpha=0.7, label=label
        )
gap = 100 * (best.certificate_.objective / bound - 1)
ax.axhline(gap, color="k", lw=1, label=f"convex fit, {best.network_.n_neurons} neurons: {gap:.2g} %")
ax.set(yscale="log", xticks=range(len(widths)), xticklabels=widths, xlabel="hidden neurons of the MLP")
ax.set(ylabel="% above the lower bound", title="the same training problem, the same alpha")
ax.legend()
plt.show()
