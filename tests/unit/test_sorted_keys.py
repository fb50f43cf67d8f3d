"""Keys are found where they are, however they lie."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from db import sorted_keys
from db.sorted_keys import find_keys

SMALLEST, LARGEST = -(2**63), 2**63 - 1
key = st.one_of(st.integers(-20, 20), st.integers(SMALLEST, LARGEST), st.sampled_from([SMALLEST, LARGEST]))


def found(keys: list[int], wanted: list[int]) -> list[int]:
    return find_keys(np.array(keys, np.int64), np.array(wanted, np.int64)).tolist()


@given(st.sets(key), st.lists(key))
def test_each_is_found_and_what_is_not_there_is_not(keys, wanted):
    keys = sorted(keys)
    place = {key: place for place, key in enumerate(keys)}
    assert found(keys, wanted + keys) == [place.get(key, -1) for key in wanted + keys]


@pytest.mark.parametrize("spread", [1, 1 << 20, 1 << 43])
def test_many_keys_in_several_parts_even_or_not(spread, monkeypatch):
    monkeypatch.setattr(sorted_keys, "PART", 1000)
    keys = np.arange(-50_000, 50_000) * spread
    wanted = np.random.default_rng(7).permutation(np.arange(-60_000, 60_000)) * spread
    expected = np.where(np.abs(wanted * 2 + spread) < 100_000 * spread, wanted // spread + 50_000, -1)
    assert (find_keys(keys, wanted) == expected).all()
