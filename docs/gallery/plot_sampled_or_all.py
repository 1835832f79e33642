"""
Sampled patterns against all of them
====================================

The convex program has one block of coefficients for each activation pattern, and there are too many patterns to list.
The usual way out is to sample some. How many does it take?
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import StandardScaler

from convexnn import ConvexReLURegressor, count_patterns

X, y = load_diabetes(return_X_y=True)
X, y = StandardScaler().fit_transform(X[:200, [2, 8]]), (y[:200] - y[:200].mean()) / y[:200].std()
print(f"{count_patterns(len(X), 3):,} activation patterns")

# %%
# All patterns: a search that ends when no neuron would improve the network, and a proof.

alpha = 0.3
whole = ConvexReLURegressor(alpha, patterns="adaptive", random_state=0).fit(X, y)
print(whole.certificate_)

# %%
# Samples of growing size, five draws each. Every one of these fits is optimal *for its list*, to the same tolerance,
# and says so in its certificate: scope "patterns".

sizes, objectives = (3, 10, 30, 100, 300, 1000), []
for size in sizes:
    for seed in range(5):
        options = dict(patterns="sampled", n_patterns=size, certify=False, random_state=seed)
        objectives.append(ConvexReLURegressor(alpha, **options).fit(X, y).certificate_.objective)
print(ConvexReLURegressor(alpha, **options).fit(X, y).certificate_)

best = whole.certificate_.objective
excess = 100 * (np.reshape(objectives, (len(sizes), 5)) / best - 1)
fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
ax.plot(sizes, excess, "o", color="C0", alpha=0.5)
ax.plot(sizes, np.median(excess, axis=1), color="C0", label="sampled patterns (median of five draws)")
ax.axhline(0, color="k", lw=1, label=f"all patterns: objective {best:.4g}")
proved = 100 * (whole.certificate_.lower_bound / best - 1)
ax.axhline(proved, color="C3", ls="--", lw=1, label="proved lower bound")
ax.set(
    xscale="log",
    xlabel="sampled patterns",
    ylabel="objective, % above the optimum",
    title="diabetes, two features, 200 rows",
)
ax.legend()
plt.show()
