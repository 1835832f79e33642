"""torch's SGD with momentum, Adam and AdamW on the weight-decay objective (N), float64, in an environment of its own.

There the file runs as ``python -m benchmarks.rivals.torch_ IN.npz OUT.npz``. The mean of the losses is minimised with
weight_decay = alpha / n_samples on all but the output bias: the gradient of (N) / n_samples for SGD and Adam. AdamW
decouples that decay from the gradient: it has **another objective**, and is graded by (N) none the less. SGD takes
batches of 128 rows, Adam and AdamW all rows. The step is constant for half of a run and falls to zero along a cosine.
(N) is evaluated off the clock, after every epoch or 30 steps; the best weights count.
"""

from __future__ import annotations

from time import perf_counter

import numpy as np

from benchmarks.environments import TORCH, call, ensure, serve

PINS = [TORCH, "numpy==2.4.6"]
#: Step sizes; torch's default first.
METHODS = {
    "SGD": (1e-3, 1e-2, 3e-2, 1e-1),
    "Adam": (1e-3, 3e-3, 1e-2, 3e-2),
    "AdamW (other objective)": (1e-3, 3e-3, 1e-2, 3e-2),
}


def train(training, args, runs):
    """One call for the runs of each method."""
    python = ensure(PINS, args.envs)
    for method in dict.fromkeys(run["method"] for run in runs):
        own = [run for run in runs if run["method"] == method]
        arrays = dict(X=training.X, y=training.y, loss=training.loss, alpha=training.alpha, method=method)
        arrays |= dict(intercept=training.intercept, threads=args.threads)
        arrays |= {name: np.array([run[name] for run in own]) for name in ("width", "step", "seed", "max_time")}
        # Evaluations of the objective are off the clock, but take their time.
        limit = 60 + 5 * sum(run["max_time"] + 1 for run in own)
        out = call(__name__, python, arrays, args.threads, limit)
        for k, run in enumerate(own):
            network = out[f"W_{k}"], out[f"b_{k}"], out[f"a_{k}"], float(out[f"c_{k}"])
            yield run, network, [tuple(point) for point in out[f"trace_{k}"]]


def solve(data):
    """Weights and traces of all runs."""
    import torch

    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(int(data["threads"]))
    X, y, alpha = torch.from_numpy(data["X"]), torch.from_numpy(data["y"]), float(data["alpha"])
    n, method = len(y), str(data["method"])
    batch = min(n, 128) if method == "SGD" else n

    def losses(y, z):
        if data["loss"] == "squared":
            return 0.5 * (y - z) ** 2
        return torch.nn.functional.softplus(-y * z)

    out = {}
    for k, (width, step, seed, limit) in enumerate(zip(*(data[f] for f in ("width", "step", "seed", "max_time")))):
        generator = torch.manual_seed(int(seed))
        network = torch.nn.Sequential(
            torch.nn.Linear(X.shape[1], int(width)),
            torch.nn.ReLU(),
            torch.nn.Linear(int(width), 1, bias=bool(data["intercept"])),
        )
        decayed = [network[0].weight, network[0].bias, network[2].weight]
        free = [network[2].bias] if data["intercept"] else []
        groups = [{"params": decayed, "weight_decay": alpha / n}] + [{"params": free, "weight_decay": 0.0}] * bool(free)
        kind = torch.optim.SGD if method == "SGD" else torch.optim.Adam if method == "Adam" else torch.optim.AdamW
        optimizer = kind(groups, lr=float(step), **({"momentum": 0.9} if method == "SGD" else {}))
        trace, best, seconds = [], None, 0.0
        while True:
            with torch.no_grad():
                value = float(losses(y, network(X)[:, 0]).sum() + 0.5 * alpha * sum((p * p).sum() for p in decayed))
            if best is None or value < trace[-1][1]:
                trace.append((seconds, value))
                best = [p.detach().numpy().copy() for p in decayed + free]
            if seconds >= limit or not np.isfinite(value):
                break
            begin = perf_counter() - seconds
            for _ in range(max(n // batch, 30)):
                progress = min((perf_counter() - begin) / limit, 1.0)
                for group in optimizer.param_groups:
                    half = 0.5 * (1 + np.cos(np.pi * max(2 * progress - 1, 0.0)))
                    group["lr"] = float(step) * half
                rows = torch.randint(n, (batch,), generator=generator) if batch < n else slice(None)
                optimizer.zero_grad()
                losses(y[rows], network(X[rows])[:, 0]).mean().backward()
                optimizer.step()
            seconds = perf_counter() - begin
        W, b, a = best[:3]
        out |= {f"W_{k}": W, f"b_{k}": b, f"a_{k}": a[0], f"c_{k}": best[3][0] if free else 0.0}
        out[f"trace_{k}"] = np.array(trace)
    return out


if __name__ == "__main__":
    serve(solve)
