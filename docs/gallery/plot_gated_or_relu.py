"""
Gated ReLU against ReLU
=======================

Gated ReLU networks fix the gates and free the weights behind them: the cone constraints go, the program gets easier,
and the model larger. It is not a ReLU network, and this is what the difference looks like.
"""

import matplotlib.pyplot as plt
import numpy as np

from convexnn import ConvexReLURegressor, enumerate_patterns

rng = np.random.default_rng(1)
x = np.sort(rng.uniform(-2, 2, 30))
X, y = x[:, None], np.where(np.abs(x) < 1, 1 - np.abs(x), 0) + 0.1 * rng.standard_normal(30)

# %%
# The same patterns, all of them, and the same alpha.

patterns = enumerate_patterns(np.column_stack([x, np.ones(30)]))
print(patterns)
alpha = 0.05
relu = ConvexReLURegressor(alpha, patterns=patterns).fit(X, y)
gated = ConvexReLURegressor(alpha, patterns=patterns, activation="gated_relu").fit(X, y)
for model in (relu, gated):
    print(model.network_, model.certificate_, sep="\n")

# %%
# The gated optimum is lower, as every ReLU network is a gated one. But a gate that opens where the weights behind it do
# not vanish makes a jump. ``to_relu`` writes every weight as a difference of two that keep their cones: the same
# predictions on the data, by a ReLU network, at a price in the penalty.

converted, price = gated.network_.to_relu(X)
print(converted, f"penalty {price:.0f} times as large")

names = ["gated ReLU", "ReLU", "gated, converted"]
networks = [gated.network_, relu.network_, converted]
objectives = [network.objective(X, y, alpha) for network in networks]
grid = np.linspace(-2.1, 2.1, 2000)

fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained", width_ratios=[2, 1])
left.plot(x, y, "o", color="0.6", ms=4, label="data")
for name, network, style in zip(names, networks, ["-", "-", ":"]):
    left.plot(grid, network.predict(grid[:, None]), style, label=f"{name}, {network.n_neurons} neurons")
left.set(xlabel="x", ylabel="y", title="the functions", ylim=(-0.2, 1.5))
left.legend(loc="upper left")
bars = right.bar(names, objectives, color=["C0", "C1", "C2"])
right.bar_label(bars, fmt="%.3g")
right.tick_params("x", rotation=20)
right.set(ylabel="objective", title="the price")
plt.show()
