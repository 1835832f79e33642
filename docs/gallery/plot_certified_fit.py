"""
A fit with a proof
==================

A network is fitted, and the fit says how far it is from the best two-layer ReLU network of any width: first in one
dimension, where all activation patterns are listed, then in two, where branch and bound proves the rest.
"""

# %%
# One feature
# -----------
# Forty points have eighty activation patterns (with a hidden bias), so ``patterns="auto"`` lists them all and the
# certificate is global.

import matplotlib.pyplot as plt
import numpy as np

from convexnn import ArrangementDisplay, CertificateDisplay, ConvexReLURegressor

rng = np.random.default_rng(0)
x = np.sort(rng.uniform(-3, 3, 40))
y = np.sin(2 * x) + 0.3 * x + 0.2 * rng.standard_normal(40)
model = ConvexReLURegressor(alpha=0.3, random_state=0).fit(x[:, None], y)
print(model.network_)
print(model.certificate_)

# %%
# Why is no network better? With the dual variable theta of the certificate, the *price* of a neuron (w, b) of length 1
# is ``|sum_i theta_i (w x_i + b)_+|``. A neuron can lower the objective only if its price is above alpha. On the right
# are the prices of all neurons there are: none is above alpha, and those of the network touch it.

network, theta, alpha = model.network_, model.certificate_.theta, model.alpha_
angle = np.linspace(-np.pi, np.pi, 2000)
price = np.abs(theta @ np.maximum(np.outer(x, np.cos(angle)) + np.sin(angle), 0))
neurons = np.arctan2(network.hidden_biases, network.hidden_weights[:, 0])
grid = np.linspace(-3.2, 3.2, 500)

fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
left.plot(x, y, "o", color="0.6", ms=4, label="data")
left.plot(grid, model.predict(grid[:, None]), label=f"network, {network.n_neurons} neurons")
kinks = -network.hidden_biases / network.hidden_weights[:, 0]
kinks = kinks[np.abs(kinks) < 3.2]
left.plot(kinks, model.predict(kinks[:, None]), "k|", ms=12, label="kinks of the neurons")
left.set(xlabel="x", ylabel="y", title="the network")
left.legend()
right.plot(angle, price / alpha)
right.axhline(1, color="k", lw=0.8)
right.plot(neurons, np.ones(len(neurons)), "o", color="C3", ms=6, label="neurons of the network")
right.set(xlabel="angle of (w, b)", ylabel="price / alpha", title="no neuron has a price above alpha", ylim=(0, 1.3))
right.legend(loc="upper right")
plt.show()

# %%
# Two features
# ------------
# Three hundred points in the plane have some 90,000 patterns. The fit searches them for neurons that matter; then a
# branch and bound over all neurons turns the search into a proof.

X = rng.uniform(-1, 1, (300, 2))
y = np.abs(X[:, 0] + X[:, 1]) - np.maximum(X[:, 0] - 0.3, 0) + 0.1 * rng.standard_normal(300)
model = ConvexReLURegressor(alpha=0.5, random_state=0).fit(X, y)
print(model.certificate_)
print(f"checked again without a solver: lower bound {model.certificate_.verify(X, y):.6g}")

# %%
# Each neuron folds the surface along one line, its arrow on the side where the neuron is active.

ArrangementDisplay.from_estimator(model, X, y, background="prediction")
plt.show()

# %%
# The prices of all neurons are now a function on the sphere; this is a circle on it.

CertificateDisplay.from_estimator(model, X)
plt.show()
