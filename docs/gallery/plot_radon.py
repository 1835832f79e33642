"""
A network in the Radon domain
=============================

A line in the plane has an angle and an offset. A ReLU neuron bends on one line, so a network with two features is a
handful of weighted points in the plane of angles and offsets, and weight decay counts what they weigh.
"""

import matplotlib.pyplot as plt
import numpy as np

from convexnn import (
    ArrangementDisplay,
    ConvexReLURegressor,
    NeuronDisplay,
    radon_measure,
    second_order_tv,
)

rng = np.random.default_rng(0)
X = rng.uniform(-1, 1, (80, 2))
folds = np.abs(X[:, 0] - 0.3) - 0.8 * np.abs(X[:, 0] + X[:, 1]) / np.sqrt(2)
y = folds + 2 * X[:, 1] + 0.05 * rng.standard_normal(80)

# %%
# The target has a slope and two folds: upwards by 2 on the line x0 = 0.3, angle 0 and offset 0.3, and downwards by 1.6
# on the line x0 + x1 = 0, angle 45 degrees and offset 0. Where the normal of a line turns by 180 degrees, its offset
# changes sign: an angle of 170 degrees is 10 degrees away from 0. The fit bends on lines near both.

options = dict(alpha=0.5, hidden_bias="free", tol=1e-8)
model = ConvexReLURegressor(**options, skip_connection=True).fit(X, y)
measure = radon_measure(model.network_)
for u, t, weight in zip(measure.directions, measure.offsets, measure.weights):
    print(f"angle {np.degrees(np.arctan2(u[1], u[0])):6.1f}, offset {t:+.2f}, weight {weight:+.2f}")

fig, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8), width_ratios=[1, 1.4], layout="constrained")
ArrangementDisplay.from_estimator(model, X, y, ax=left, background="prediction")
NeuronDisplay.from_estimator(model, X, ax=right)
plt.show()

# %%
# Left the plane, with a line for each neuron; right the same lines as points. A grey curve is the lines through one
# sample, and where two curves cross is the line through both samples. Between the same curves all lines have the same
# samples on the same side: that is an activation pattern, up to the side.
#
# What the points weigh is the second-order total variation, and what weight decay charges here. Without a skip
# connection the slope has to come from neurons: the heaviest bends at the edge of the samples, where hardly any of
# them see it.

bare = ConvexReLURegressor(**options).fit(X, y)
for name, fit in (("with a skip connection", model), ("without", bare)):
    network = fit.network_
    print(f"{name}: {second_order_tv(network):.3f}, sum of path norms {network.path_norms.sum():.3f}")
fig, ax = plt.subplots(figsize=(7.5, 4.8), layout="constrained")
NeuronDisplay.from_estimator(bare, X, ax=ax)
plt.show()
