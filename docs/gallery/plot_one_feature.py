"""
One feature: a network is a spline
==================================

With one feature, free hidden biases and a skip connection, the network with the least weight decay is the linear spline
with the least total variation of its slope. :class:`~convexnn.ReLUSplineRegressor` finds it, knots and all.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import KFold

from convexnn import ReLUSplineRegressor, ReLUSplineRegressorCV

rng = np.random.default_rng(0)
x = np.sort(rng.uniform(0, 1, 300))
truth = np.sin(20 * x**2)
y = truth + 0.3 * rng.standard_normal(300)
y[::40] += 4
X = x[:, None]

# %%
# Cross-validation chooses alpha. The squared loss pays for the outliers, Huber's loss hardly sees them. A knot is a
# neuron: its certificate says that no network of any width is better.

cv = KFold(5, shuffle=True, random_state=0)
fine = np.linspace(0, 1, 1000)[:, None]
fig, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained", sharey=True)
for ax, loss in zip(axes, ("squared", "huber")):
    model = ReLUSplineRegressorCV(loss=loss, cv=cv).fit(X, y)
    error = np.sqrt(np.mean((model.predict(X) - truth) ** 2))
    ax.plot(x, y, ".", color="0.75", ms=4)
    ax.plot(x, truth, "k", lw=0.8, label="truth")
    ax.plot(fine, model.predict(fine), label=f"{len(model.knots_)} knots, off by {error:.2f}")
    ax.plot(model.knots_, model.predict(model.knots_[:, None]), "o", color="C0", ms=5)
    ax.set(title=f"loss={loss!r}, alpha = {model.alpha_:.2g}", xlabel="x", ylim=(-2.2, 3))
    ax.legend()
    print(model.certificate_)
plt.show()

# %%
# What the solver looks at: the price of a ramp at each point, within alpha everywhere and at plus or minus alpha where
# the slope changes. That is all there is to check, since there are no other neurons.

model = ReLUSplineRegressor(alpha=0.3, loss="huber").fit(X, y)
theta = model.certificate_.theta
prices = np.array([theta @ np.maximum(x - knot, 0) for knot in x])
fig, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
ax.plot(x, prices / model.alpha_)
ax.plot(model.knots_, np.interp(model.knots_, x, prices) / model.alpha_, "o", label="knots")
ax.axhline(1, color="k", lw=0.6)
ax.axhline(-1, color="k", lw=0.6)
ax.set(xlabel="x", ylabel="price of a ramp / alpha")
ax.legend()
plt.show()
