"""Pricing from above."""

from __future__ import annotations

from time import perf_counter

import numpy as np

from convexnn.cones import towards

N_POINTS = 8
N_STEPS = 6
BATCH = 1000
EPS = 0.03
STATS = {}
LATTICE = 2.0**30


def count(name, n):
    STATS[name] = STATS.get(name, 0) + int(n)


class _Table:
    def __init__(self, **columns):
        self.n = 0
        self.columns = columns

    def append(self, **rows):
        n = self.n + len(next(iter(rows.values())))
        for name, new in rows.items():
            if n > len(self.columns[name]):
                old = self.columns[name]
                grown = np.empty((2 * n, *old.shape[1:]), dtype=old.dtype)
                grown[: self.n] = old[: self.n]
                self.columns[name] = grown
            self.columns[name][self.n : n] = new
        first, self.n = self.n, n
        return np.arange(first, n)

    def __getattr__(self, name):
        return self.columns[name][: self.n]


def _subgradients(V, R):
    out = np.empty((len(V), R.shape[1]))
    size = max(1, 200_000 // max(len(R), 1))
    for k in range(0, len(V), size):
        Z = V[k : k + size] @ R.T
        np.greater(Z, 0, out=Z)
        np.matmul(Z, R, out=out[k : k + size])
    return out


def _thinned(w, S):
    """Weights of the same mean of r + 2 points of which one is zero (Caratheodory)."""
    if not len(w):
        return w
    M = np.concatenate([S, np.ones((*w.shape, 1)) * np.abs(S).max(axis=(1, 2), keepdims=True)], axis=2).transpose(0, 2, 1)
    MtM = M.transpose(0, 2, 1) @ M
    null = np.linalg.eigh(MtM)[1][:, :, 0]
    null *= np.sign(null[np.arange(len(w)), np.abs(null).argmax(axis=1)])[:, None]
    ratio = np.where(null > 0, w / np.where(null > 0, null, 1.0), np.inf)
    j = ratio.argmin(axis=1)
    w = np.maximum(w - ratio.min(axis=1)[:, None] * null, 0.0)
    w[np.arange(len(w)), j] = 0.0
    count("thinned", len(w))
    return w / w.sum(axis=1, keepdims=True)


def _multipliers(gram, c, support):
    """lam >= 0, gram lam >= c, complementary (block principal pivoting)."""
    lam = np.zeros_like(c)
    k = np.arange(len(c))
    support = support.copy()
    r = c.shape[1]
    for step in range(30):
        F = support[k]
        M = gram[k] * (F[:, :, None] & F[:, None, :])
        np.einsum("kii->ki", M)[...] += np.where(F, 1e-14, 1.0)
        x = np.linalg.solve(M, (c[k] * F)[:, :, None])
        slack = (gram[k] @ x)[:, :, 0] - c[k]
        x = x[:, :, 0]
        lam[k] = x
        wrong = np.where(F, x < 0, slack < -1e-9)
        if step >= 5:
            last = r - 1 - np.argmax(wrong[:, ::-1], axis=1)
            wrong &= np.arange(r) == last[:, None]
        support[k] ^= wrong
        k = k[wrong.any(axis=1)]
        count("lcp", len(F))
        if not len(k):
            break
    count("lcp_fail", len(k))
    return np.maximum(lam, 1e-300)


class _Search:
    def __init__(self, R, T, price, cut):
        self.P, self.Q = R[T > 0], -R[T < 0]
        r = self.r = R.shape[1]
        global N_POINTS
        N_POINTS = r + 2
        self.price, self.best, self.cut = price, None, cut
        K = 2 ** (r - 1)
        # corner k of a box on a face takes, on the j-th free axis, the upper end if bit j of k is set
        self.bits = ((np.arange(K)[:, None] >> np.arange(r - 1)) & 1).astype(float)
        self.points = _Table(v=np.empty((0, r)), s=np.empty((0, r)))
        self.corners = _Table(p=np.empty(0), a=np.empty((0, r)))
        self.seen = {}
        self.code = np.random.default_rng(0).integers(-(2**62), 2**62, r) * 2 + 1
        self.nodes = _Table(
            lo=np.empty((0, r)),
            size=np.empty((0, r)),
            face=np.empty(0, dtype=np.int8),
            verts=np.empty((0, K), dtype=np.int32),
            slots=np.empty((0, N_POINTS), dtype=np.int32),
            w=np.empty((0, N_POINTS)),
            z=np.empty((0, r)),
            act=np.empty((0, r), dtype=np.int16),
            kappa=np.empty(0),
            bound=np.empty(0),
            child=np.empty(0, dtype=np.int32),
        )

    def full_bits(self, face):
        """(N, K, r) for each face; here as a table (r, K, r)."""
        r, K = self.r, len(self.bits)
        out = np.zeros((r, K, r))
        for f in range(r):
            out[f][:, [j for j in range(r) if j != f]] = self.bits
        return out

    def corner_indices(self, V):
        """Numbers of corners at (..., r), evaluating new."""
        flat = V.reshape(-1, self.r)
        keys = (flat * LATTICE).astype(np.int64) @ self.code
        unique, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        numbers = np.array([self.seen.get(key, -1) for key in unique.tolist()])
        fresh = numbers < 0
        if fresh.any():
            U = flat[first[fresh]]
            a = _subgradients(U, self.P)
            count("corner", len(U))
            numbers[fresh] = self.corners.append(p=np.einsum("kd,kd->k", a, U), a=a)
            self.seen.update(zip(unique[fresh].tolist(), numbers[fresh].tolist()))
        return numbers[inverse].reshape(V.shape[:-1])

    def threshold(self):
        return self.cut(self.price)

    def values(self, z, lo, size, face):
        """g_k^T z at the corners: (N, K)"""
        out = np.einsum("kd,kd->k", z, lo)[:, None]
        scaled = z * size
        free = self.free[face]
        return out + np.take_along_axis(scaled, free, axis=1) @ self.bits.T

    def shortest(self, c, lo, size, face, act):
        """min |z| s.t. g_k^T z >= c_k: NNLS on the corners"""
        N, r = lo.shape
        fb = self.fb
        lam = np.zeros((N, r))
        act = act.copy()
        z = np.zeros((N, r))
        tol = 1e-12 * np.abs(c).max(axis=1)

        def solve(k, a):
            used = a >= 0
            G = lo[k][:, None, :] + fb[face[k][:, None], a] * size[k][:, None, :]
            G *= used[:, :, None]
            gram = G @ G.transpose(0, 2, 1)
            np.einsum("kii->ki", gram)[...] += np.where(used, 1e-14 * r, 1.0)
            cc = np.take_along_axis(c[k], np.maximum(a, 0), axis=1) * used
            count("solve", len(k))
            return np.linalg.solve(gram, cc[:, :, None])[:, :, 0], G

        # warm start: drop negatives
        k = np.flatnonzero((act >= 0).any(axis=1))
        while len(k):
            x, G = solve(k, act[k])
            neg = (x <= 0) & (act[k] >= 0)
            act[k] = np.where(neg, -1, act[k])
            bad = neg.any(axis=1)
            lam[k] = np.where(act[k] >= 0, x, 0.0)
            z[k[~bad]] = np.einsum("kr,krd->kd", lam[k[~bad]], G[~bad])
            k = k[bad]
        k = np.arange(N)
        for _ in range(4 * r):
            short = c[k] - self.values(z[k], lo[k], size[k], face[k])
            worst = short.argmax(axis=1)
            a = act[k]
            go = (short[np.arange(len(k)), worst] > tol[k]) & ~(a == worst[:, None]).any(axis=1) & (a < 0).any(axis=1)
            k, worst, a = k[go], worst[go], a[go]
            if not len(k):
                break
            a[np.arange(len(k)), np.argmax(a < 0, axis=1)] = worst
            j = np.arange(len(k))
            l = lam[k]
            while len(j):
                x, G = solve(k[j], a[j])
                l[j], a[j], left = towards(x, l[j], a[j])
                done = ~left
                z[k[j[done]]] = np.einsum("kr,krd->kd", l[j[done]], G[done])
                j = j[left]
            lam[k], act[k] = l, a
        return z, act

    def tighten(self, lo, size, face, verts, slots, w, act, kappa):
        N, r = lo.shape
        p = self.corners.p[verts]
        slots, w, act, kappa = slots.copy(), w.copy(), act.copy(), kappa.copy()
        z, bound = np.zeros((N, r)), np.full(N, np.inf)
        new_slots, new_w, new_act = slots.copy(), w.copy(), act.copy()
        index = np.zeros(N, dtype=int)
        k = np.arange(N)
        for step in range(N_STEPS + 1):
            b = np.einsum("km,kmd->kd", new_w[k], self.points.s[new_slots[k]])
            c = p[k] - self.values(b, lo[k], size[k], face[k])
            nz, na = self.shortest(c, lo[k], size[k], face[k], new_act[k])
            short = np.maximum((c - self.values(nz, lo[k], size[k], face[k])).max(axis=1), 0.0)
            nz[np.arange(len(k)), face[k]] += short * lo[k, face[k]]
            nb = np.linalg.norm(nz, axis=1)
            better = nb < bound[k] * (1 - 1e-9)
            count("worse", (~better).sum())
            dead = ~better & (kappa[k] == 1)
            count("dead", dead.sum())
            j = k[better]
            slots[j], w[j], z[j], act[j], bound[j] = new_slots[j], new_w[j], nz[better], na[better], nb[better]
            if step:
                kappa[j] = np.maximum(kappa[j] * SHRINK, 1e-3)
            kappa[k[~better]] = 1.0
            keep = ~dead & (bound[k] > self.threshold())
            if step == N_STEPS:
                break
            k, fresh = k[keep], better[keep]
            u = z[k[fresh]] / bound[k[fresh], None]
            s = _subgradients(u, self.Q)
            count("point", len(u))
            index[k[fresh]] = self.points.append(v=u, s=s)
            u = z[k] / bound[k, None]
            s = self.points.s[index[k]]
            S = self.points.s[slots[k]]
            b = np.einsum("km,kmd->kd", w[k], S)
            low = bound[k] - np.einsum("kd,kd->k", u, s - b)
            self.look(u[low > self.price])
            keep = low <= self.threshold()
            count("hopeless", (~keep).sum())
            k, s, b, S = k[keep], s[keep], b[keep], S[keep]
            if not len(k):
                break
            rows = np.arange(len(k))
            full = (w[k] > 0).all(axis=1)
            w[k[full]] = _thinned(w[k[full]], S[full])
            spare = np.argmin(w[k], axis=1)
            S[rows, spare] = s
            new_slots[k] = slots[k]
            new_slots[k, spare] = index[k]
            D = z[k][:, None] + b[:, None] - S
            a = act[k]
            used = a >= 0
            G = lo[k][:, None, :] + self.fb[face[k][:, None], a] * size[k][:, None, :]
            G *= used[:, :, None]
            gram = G @ G.transpose(0, 2, 1)
            np.einsum("kii->ki", gram)[...] += np.where(used, 1e-12 * r, 1.0)
            T = G.transpose(0, 2, 1)
            PD = (T @ np.linalg.solve(gram, G @ D.transpose(0, 2, 1))).transpose(0, 2, 1)
            kap = kappa[k][:, None, None]
            D = kap * D + (1 - kap) * PD
            gram = D @ D.transpose(0, 2, 1)
            gram /= np.einsum("kii->k", gram)[:, None, None]
            gram += np.einsum("kii->ki", gram).min(axis=1)[:, None, None]
            support = w[k] > 0
            support[rows, spare] = True
            gram *= support[:, :, None] & support[:, None, :]
            np.einsum("kii->ki", gram)[...] += ~support
            wk = _multipliers(gram, np.where(support, 1.0, -1.0), support)
            wk[wk < 1e-10 * wk.max(axis=1, keepdims=True)] = 0
            count("full", (wk > 0).all(axis=1).sum())
            new_w[k] = wk / wk.sum(axis=1, keepdims=True)
            new_act[k] = act[k]
        return slots, w, z, act, kappa, bound

    def look(self, U):
        if len(U):
            h = (np.maximum(U @ self.P.T, 0).sum(axis=1) - np.maximum(U @ self.Q.T, 0).sum(axis=1)) / np.linalg.norm(
                U, axis=1
            )
            j = h.argmax()
            if h[j] > self.price:
                self.price, self.best = h[j], U[j]

    def start(self):
        r = self.r
        self.fb = self.full_bits(None)
        self.free = np.array([[j for j in range(r) if j != f] for f in range(r)], dtype=int).reshape(r, r - 1)
        lo = [np.r_[1.0, -np.ones(r - 1)]]
        size = [np.r_[0.0, 2 * np.ones(r - 1)]]
        face = [0]
        for j in range(1, r):
            for sign in (1, -1):
                l, s = np.r_[0.0, -np.ones(r - 1)], np.r_[1.0, 2 * np.ones(r - 1)]
                l[j], s[j] = sign, 0
                lo.append(l), size.append(s), face.append(j)
        lo, size, face = np.array(lo), np.array(size), np.array(face)
        verts = self.corner_indices(lo[:, None] + self.fb[face] * size[:, None])
        centre = lo + size / 2
        index = self.points.append(v=centre, s=_subgradients(centre, self.Q))
        slots = np.repeat(index[:, None], N_POINTS, axis=1)
        w = np.zeros((len(lo), N_POINTS))
        w[:, 0] = 1
        self.add(lo, size, face, verts, slots, w, np.full((len(lo), r), -1), np.ones(len(lo)))

    def add(self, lo, size, face, verts, slots, w, act, kappa):
        slots, w, z, act, kappa, bound = self.tighten(lo, size, face, verts, slots, w, act, kappa)
        return self.nodes.append(
            lo=lo, size=size, face=face, verts=verts, slots=slots, w=w, z=z, act=act, kappa=kappa, bound=bound,
            child=np.full(len(lo), -1),
        )

    def split(self, k):
        nodes, r = self.nodes, self.r
        lo, size, face, verts, z = nodes.lo[k], nodes.size[k], nodes.face[k], nodes.verts[k], nodes.z[k]
        rows = np.arange(len(k))
        free = self.free[face]
        # position of the maximiser in the box
        ahead = z[rows, face] * lo[rows, face]
        y = z / np.where(ahead > 1e-9, ahead, 1.0)[:, None]
        at = (y - lo) / np.where(size > 0, size, 1.0)
        weight = np.clip(at * (1 - at), 0, 0.25) + EPS
        score = np.full((len(k), r - 1), -1.0)
        half = np.arange(len(self.bits))
        a = self.corners.a
        weight = np.take_along_axis(weight, free, axis=1)
        fsize = np.take_along_axis(size, free, axis=1)
        for j in range(r - 1):
            up = half[self.bits[:, j] > 0]
            down = up - (1 << j)
            axis = free[:, j][:, None]
            curv = (a[verts[:, up], axis] - a[verts[:, down], axis]).mean(axis=1)
            score[:, j] = curv * fsize[:, j] * weight[:, j]
        none = score.max(axis=1) <= 0
        score[none] = fsize[none]
        j = score.argmax(axis=1)
        axis = free[rows, j]
        h = size[rows, axis] / 2
        small = size.copy()
        small[rows, axis] = h
        upper = lo.copy()
        upper[rows, axis] += h
        left, right = verts.copy(), verts.copy()
        K2 = len(self.bits) // 2
        ups = np.array([half[self.bits[:, i] > 0] for i in range(r - 1)])[j]
        downs = ups - (1 << j)[:, None]
        mid = upper[:, None] + self.fb[face[:, None], downs] * small[:, None]
        mid = self.corner_indices(mid)
        left[rows[:, None], ups] = mid
        right[rows[:, None], downs] = mid
        two = lambda x, y: np.stack([x, y], axis=1).reshape(2 * len(k), *x.shape[1:])
        twice = np.repeat(k, 2)
        first = nodes.n
        self.add(
            two(lo, upper), two(small, small), np.repeat(face, 2), two(left, right), nodes.slots[twice],
            nodes.w[twice], nodes.act[twice], nodes.kappa[twice],
        )
        nodes.child[k] = first + 2 * np.arange(len(k))

    def run(self, max_time, max_cones):
        t0 = perf_counter()
        self.start()
        nodes = self.nodes
        open_ = np.arange(nodes.n)
        while True:
            bounds = nodes.bound[open_]
            keep = bounds > self.threshold()
            open_, bounds = open_[keep], bounds[keep]
            if not len(open_) or perf_counter() - t0 > max_time or nodes.n > max_cones:
                break
            size = min(BATCH, max(50, len(open_) // 4))
            if len(open_) > size:
                order = np.argpartition(-bounds, size)
                take, rest = open_[order[:size]], open_[order[size:]]
            else:
                take, rest = open_, open_[:0]
            n = nodes.n
            self.split(take)
            open_ = np.concatenate([rest, np.arange(n, nodes.n)])
        leaves = nodes.child < 0
        return nodes.bound[leaves].max(), leaves.sum(), perf_counter() - t0


STEP = 1.0
SHRINK = 0.6


def reduce(X, t):
    L = X.T @ t
    _, s, Vt = np.linalg.svd(X, full_matrices=False)
    B = Vt[s > 1e-12 * s[0]]
    l = B @ L
    if np.linalg.norm(l) > 0:
        l /= np.linalg.norm(l)
        Q = np.linalg.svd(X @ B.T @ (np.eye(len(l)) - np.outer(l, l)))[2].T[:, : len(l) - 1]
        Q = np.column_stack([l, Q])
        Q = np.linalg.qr(Q)[0]
        Q[:, 0] = l
    else:
        Q = np.eye(len(B))
    return B.T @ Q
