"""Fréchet distance of features of two sets (Heusel et al. 2017): FID, FVD or E-FID, by the network that made them.

d^2 = |m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2))
"""

from __future__ import annotations

import logging

import numpy as np

from ...errors import MCDMError
from ...published.network import Features

logger = logging.getLogger(__name__)


class Moments:
    """Mean and covariance of features that come batch by batch."""

    def __init__(self) -> None:
        self.count = 0
        self._sum: Features = np.zeros(0)
        self._outer: Features = np.zeros((0, 0))

    def add(self, features: Features) -> None:
        """Take features ``[n, d]`` into account."""
        if not self.count:
            width = features.shape[1]
            self._sum, self._outer = np.zeros(width), np.zeros((width, width))
        self.count += len(features)
        self._sum += features.sum(0)
        self._outer += features.T @ features

    def merge(self, other: Moments) -> Moments:
        """Those of both sets together."""
        if not (self.count and other.count):
            return self if self.count else other
        both = Moments()
        both.count = self.count + other.count
        both._sum, both._outer = self._sum + other._sum, self._outer + other._outer
        return both

    @property
    def mean(self) -> Features:
        """Of all features, ``[d]``."""
        return self._sum / self.count

    @property
    def covariance(self) -> Features:
        """Of all features, ``[d, d]``, unbiased."""
        mean = self.mean
        return (self._outer - self.count * np.outer(mean, mean)) / (self.count - 1)


def frechet_distance(one: Moments, other: Moments) -> float:
    """The square of the distance, as FID and FVD are stated.

    Raises:
        MCDMError: if a set has fewer than two features.

    >>> a, b = Moments(), Moments()
    >>> a.add(np.array([[0.0], [2.0]])), b.add(np.array([[3.0], [5.0]]))
    (None, None)
    >>> frechet_distance(a, b)
    9.0
    """
    for moments in (one, other):
        if moments.count < 2:
            raise MCDMError(
                "A Fréchet distance needs at least two pictures, or clips as long as the network's, in each set."
            )
    if min(one.count, other.count) <= len(one.mean):
        logger.warning(
            "%d and %d samples of %d features: with so few the distance is too large, and only good for comparing "
            "sets of these sizes.",
            one.count,
            other.count,
            len(one.mean),
        )
    between = one.mean - other.mean
    # The trace of the root of C_1 C_2 is that of R C_2 R with R the root of C_1, which is symmetric.
    root = _root(one.covariance)
    values = np.linalg.eigvalsh(root @ other.covariance @ root)
    shared = np.sqrt(values.clip(min=0)).sum()
    distance = between @ between + np.trace(one.covariance) + np.trace(other.covariance) - 2 * shared
    return max(0.0, float(distance))


def _root(covariance: Features) -> Features:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
