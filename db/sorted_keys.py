"""Where keys stand among others: those of records and profiles are hashes."""

import numpy as np

PART = 1 << 18
# Keys that are hashes lie evenly: whoever knows how many begin with smaller bits passes few others.
MOST_STEPS = 8


def find_keys(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The place of each wanted key among `keys` (int64, in order, each once); -1 for one that is not there (int32).

    Several times faster than binary search where the keys lie evenly, as hashes do; little slower where they do not.
    Memory: 4 bytes per wanted key, some 12 per key while they are counted.
    """
    places = np.full(len(wanted), -1, np.int32)
    if not len(keys):
        return places
    shift = 64 - len(keys).bit_length()
    least = -1 << (63 - shift)
    counts = np.bincount((keys >> shift) - least, minlength=-2 * least)
    begins = np.cumsum(counts, dtype=np.int32) - counts.astype(np.int32)
    last = len(keys) - 1
    for start in range(0, len(wanted), PART):
        these = wanted[start : start + PART]
        found = np.minimum(begins.take((these >> shift) - least), last)
        rows = np.flatnonzero(keys.take(found) < these)
        for _ in range(MOST_STEPS):
            further = np.minimum(found.take(rows) + 1, last)
            found[rows] = further
            rows = rows[(keys.take(further) < these.take(rows)) & (further < last)]
        found[rows] = np.minimum(np.searchsorted(keys, these.take(rows)), last)
        places[start : start + PART] = np.where(keys.take(found) == these, found, -1)
    return places
