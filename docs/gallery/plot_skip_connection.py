"""
A skip connection
=================

With ``skip_connection=True`` the network gets an unpenalised linear term. Neurons then explain only what a linear model
does not, and a large alpha ends at the linear model, not at a constant.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LinearRegression

from convexnn import ConvexReLURegressor

rng = np.random.default_rng(0)


def draw(n):
    """Four features, all with a slope, and a bump along the first."""
    X = rng.uniform(-2, 2, (n, 4))
    return X, X @ [3, -2, 1, 2] + 3 * np.maximum(1 - np.abs(X[:, 0]), 0) + rng.standard_normal(n)


X, y = draw(100)
X_test, y_test = draw(2000)

# %%
# The same alphas for both. Without the skip connection the slopes must be paid for by weights of neurons.

alphas = np.geomspace(300, 1, 7)
kinds = {"without skip connection": False, "with skip connection": True}
fits = {
    name: [ConvexReLURegressor(a, skip_connection=skip, certify=False, random_state=0).fit(X, y) for a in alphas]
    for name, skip in kinds.items()
}


def error(model):
    return np.sqrt(np.mean((y_test - model.predict(X_test)) ** 2))


fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
for name, models in fits.items():
    left.plot(alphas, [error(model) for model in models], "o-", ms=4, label=name)
    right.plot(alphas, [model.network_.n_neurons for model in models], "o-", ms=4, label=name)
left.axhline(error(LinearRegression().fit(X, y)), color="k", lw=0.8, label="linear regression")
left.axhline(1, color="k", lw=0.8, ls=":", label="noise")
left.set(xscale="log", xlabel="alpha", ylabel="test RMSE", title="test error", ylim=(0.9, 3))
right.set(xscale="log", xlabel="alpha", ylabel="neurons", title="size of the network")
for ax in (left, right):
    ax.invert_xaxis()
    ax.legend()
plt.show()

# %%
# The slopes of the best network with a skip connection, and along the first feature what is left for its neurons.

best = min(fits["with skip connection"], key=error)
slopes = best.network_.skip_weights
print(best, slopes, best.network_, sep="\n")
line = np.zeros((300, 4))
line[:, 0] = np.linspace(-2, 2, 300)
fig, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
ax.plot(X[:, 0], y - X @ slopes - best.network_.output_bias, "o", color="0.7", ms=4, label="data less linear term")
neurons = best.predict(line) - line @ slopes - best.network_.output_bias
ax.plot(line[:, 0], neurons, label=f"{best.network_.n_neurons} neurons, other features at 0")
ax.set(xlabel="first feature", ylabel="y", title=f"alpha = {best.alpha_:.2g}")
ax.legend()
plt.show()
