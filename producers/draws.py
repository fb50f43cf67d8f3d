"""Random numbers as a pure function of what they are for.

Every draw is a hash of (seed, stream, keys), so any record or person can be drawn alone, in any order and in
batches of any size, and always comes out the same. The mixing function is splitmix64 (Steele, Lea and Flood
2014, "Fast splittable pseudorandom number generators").
"""

import hashlib
from functools import cache

import numpy as np

Keys = np.ndarray | int


@cache
def _stream(name: str) -> np.uint64:
    """A fixed number for a stream's name."""
    return np.frombuffer(hashlib.blake2b(name.encode(), digest_size=8).digest(), dtype="<u8")[0]


def _mixed(values: np.ndarray) -> np.ndarray:
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def hashes(seed: Keys, stream: str, *keys: Keys) -> np.ndarray:
    """64 pseudo-random bits (uint64) for each element of the broadcast keys."""
    with np.errstate(over="ignore"):
        state = _mixed(np.atleast_1d(np.asarray(seed)).astype(np.uint64) ^ _stream(stream))
        for key in keys:
            state = _mixed(state ^ np.asarray(key).astype(np.uint64))
    return state


def uniform(seed: Keys, stream: str, *keys: Keys) -> np.ndarray:
    """Floats in [0, 1) for each element of the broadcast keys."""
    return (hashes(seed, stream, *keys) >> np.uint64(11)) * 2.0**-53


def chance(rate: Keys | float, seed: Keys, stream: str, *keys: Keys) -> np.ndarray:
    """True with probability `rate` (a number or one per element)."""
    return uniform(seed, stream, *keys) < rate


def below(limit: Keys, seed: Keys, stream: str, *keys: Keys) -> np.ndarray:
    """Whole numbers in [0, limit) (int64); `limit` is a number or one per element."""
    return (uniform(seed, stream, *keys) * limit).astype(np.int64)


def choice(weights: list[float] | np.ndarray, seed: Keys, stream: str, *keys: Keys) -> np.ndarray:
    """Indices (int64) into `weights`, each drawn with a probability in proportion to its weight."""
    cumulative = np.cumsum(weights, dtype=float)
    drawn = uniform(seed, stream, *keys) * cumulative[-1]
    return np.minimum(np.searchsorted(cumulative, drawn, side="right"), len(cumulative) - 1)
