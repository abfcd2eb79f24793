"""A matrix back into a LoRA pair: the nearest one of rank r, as balanced factors near those of now.

A mean of products B_k A_k has a rank of up to K r, and a pair holds r. Of all matrices of rank r the nearest
is the r leading terms of the singular value decomposition U S V^T (Eckart and Young, Psychometrika 1 (1936)
211-218), in Frobenius norm never further than mean(B) mean(A), which is one of them. What is lost is the root
of the squares of the singular values that are left out; Bai et al. ("FlexLoRA",
https://arxiv.org/abs/2402.11505) share updates of different ranks so.

The factors are B = U sqrt(S) Q and A = Q^T sqrt(S) V^T: balanced (B^T B = A A^T), so that neither is all
scale and the other none. Q, orthogonal, turns both as near as possible to the factors of now (orthogonal
Procrustes, Schönemann, Psychometrika 31 (1966) 1-10): singular vectors come in any sign and order, and a
codec that sends changes (docs/codecs.md) would send the jumps of that.

A direction that the matrix does not fill would be 0 in both factors, and no gradient leads out of there. It
is given a row of A of the size that rows have now, and a column 0 of B, as LoRA begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array32 = npt.NDArray[np.float32]
Array64 = npt.NDArray[np.float64]
_FILLED = 2.0**-40  # a singular value below this share of the largest is rounding
_ROUNDS = 3  # of power iteration
_BESIDE = 8  # columns, besides twice the rank, in which the leading directions are looked for
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Refactored:
    """``b`` (d_out, rank) and ``a`` (rank, d_in). ``lost``: square of the distance of their product from what
    was asked for. ``changed``: square of the distance of that from the product of now."""

    b: Array32
    a: Array32
    lost: float
    changed: float


def combination(
    coefficients: Sequence[float],
    factors: Sequence[tuple[Array32, Array32]],
    now: tuple[Array32, Array32],
) -> Refactored:
    """The sum of ``coefficient * B A``, put into the rank of ``now``.

    ``factors``: (B, A) of each coefficient. ``now``: (B_0, A_0). Exact but for rounding, and without any
    d_out x d_in matrix: with B = [B_1 .. B_K] = Q R and A^T = [A_1^T .. A_K^T] = P T, it is the decomposition
    of the small matrix R diag(coefficients) T^T. Costs (K r)^2 (d_out + d_in).
    """
    rank = now[1].shape[0]
    q_out, r_out = np.linalg.qr(np.concatenate([*(b for b, _ in factors), now[0]], 1).astype(np.float64))
    q_in, r_in = np.linalg.qr(np.concatenate([*(a for _, a in factors), now[1]]).astype(np.float64).T)
    core = (r_out * np.repeat([*coefficients, 0.0], rank)) @ r_in.T
    of_change = core - r_out[:, -rank:] @ r_in[:, -rank:].T
    u, s, vt = np.linalg.svd(core, full_matrices=False)
    b, a = _balanced(q_out @ u[:, :rank], s[:rank], vt[:rank] @ q_in.T, now)
    return Refactored(b, a, float(np.sum(s[rank:] ** 2)), float(np.sum(of_change**2)))


def nearest(change: Array64, now: tuple[Array32, Array32]) -> Refactored:
    """``B_0 A_0 + change``, of shape (d_out, d_in), put into the rank of ``now``, which is (B_0, A_0).

    By power iteration on a few columns more than twice the rank, from a fixed start (Halko, Martinsson and
    Tropp, SIAM Review 53 (2011) 217-288, https://arxiv.org/abs/0909.4061, algorithm 4.4): exact where these
    are all columns or the rest is 0, and else a little further than the nearest. Costs some 16 r d_out d_in.
    """
    b0, a0 = (factor.astype(np.float64) for factor in now)
    rank = len(a0)

    def times(x: Array64) -> Array64:
        return change @ x + b0 @ (a0 @ x)

    def back(y: Array64) -> Array64:
        return change.T @ y + a0.T @ (b0.T @ y)

    width = min(2 * rank + _BESIDE, *change.shape)
    start: Array64 = np.random.default_rng(0).standard_normal((change.shape[1], width))
    span = np.linalg.qr(times(start)).Q
    for _ in range(_ROUNDS):
        span = np.linalg.qr(times(np.linalg.qr(back(span)).Q)).Q
    u, s, vt = np.linalg.svd(back(span).T, full_matrices=False)
    b, a = _balanced(span @ u[:, :rank], s[:rank], vt[:rank], now)
    changed = float(np.vdot(change, change))
    whole = changed + 2.0 * float(np.sum((b0.T @ change) * a0)) + float(np.sum((b0.T @ b0) * (a0 @ a0.T)))
    return Refactored(b, a, max(0.0, whole - float(np.sum(s[:rank] ** 2))), changed)


def _balanced(u: Array64, s: Array64, vt: Array64, now: tuple[Array32, Array32]) -> tuple[Array32, Array32]:
    """``u`` (d_out, n), ``s`` falling, ``vt`` (n, d_in), n at most the rank -> (B, A)."""
    b0, a0 = (factor.astype(np.float64) for factor in now)
    filled = s > _FILLED * s[:1]
    b, a = np.zeros(b0.shape), np.zeros(a0.shape)
    b[:, : len(s)] = u * np.where(filled, np.sqrt(s), 0.0)
    a[: len(s)] = vt * np.where(filled, np.sqrt(s), np.sqrt(np.mean(np.sum(a0**2, axis=1))))[:, None]
    left, _, right = np.linalg.svd(b.T @ b0 + a @ a0.T)
    turn = left @ right
    return _as_float32(b @ turn), _as_float32(turn.T @ a)


def _as_float32(factor: Array64) -> Array32:
    """As float32; what is larger than float32 holds, which no training gives, as the largest that it does."""
    return np.clip(factor, -_LARGEST, _LARGEST).astype(np.float32)
