"""Hypothesis strategies: message bodies of every kind, and numerals."""

from __future__ import annotations

import json

from hypothesis import strategies as st

numerals = st.from_regex(r"-?(0|[1-9][0-9]{0,45})(\.[0-9]{1,45})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)

scalars = st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.text(max_size=20)

values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4), max_leaves=12
)

FIELDS = ["transaction_id", "amount", "currency", "transaction_category", "nämé"]

transactions = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), values, max_size=6).map(json.dumps)

cut = st.tuples(transactions, st.integers(0, 200)).map(lambda pair: pair[0][: pair[1]])

junk = st.binary(min_size=1, max_size=80).map(lambda raw: raw.decode("utf-8", "surrogateescape"))

good = st.fixed_dictionaries({"transaction_id": st.text(min_size=1, max_size=9), "amount": st.integers(0, 10**6)}, optional={"x": values})

bodies = st.one_of(
    st.text(min_size=1), junk, transactions, cut, good.map(json.dumps), st.sampled_from(["NaN", "[" * 5000, "\x00", "\ufffe"])
)
