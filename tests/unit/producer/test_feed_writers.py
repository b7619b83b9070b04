"""Whatever a writer, a rotation, an operator or a kill does: each line is in the ledger once, or in a place that is named as lost."""

from __future__ import annotations

import os
from collections import Counter

from feed_writer import READS, WRITES, Generation, Reader, Writer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# The same 200 each time, unless told how many: then others each time, FEED_EXAMPLES=3000 takes a minute.
EXAMPLES = int(os.environ.get("FEED_EXAMPLES", "200"))
steps = st.lists(st.tuples(st.sampled_from(WRITES + READS), st.integers(0, 999)), min_size=5, max_size=40)


def unnamed(generations: list[Generation], ids: set[str], reader: Reader) -> list[tuple[str, int]]:
    """The lines that are neither in the ledger nor after a lost place; each lost place stands for one generation of a file."""
    places, found = reader.lost(), []
    for each in generations:
        missing = [(name, start) for name, start in each.lines if name not in ids]
        if missing:
            fits = [place for place in places if place.file in each.names and place.offset <= missing[0][1]]
            if fits:
                places.remove(max(fits, key=lambda place: place.offset))
            else:
                found += missing
    return found


@settings(max_examples=EXAMPLES, derandomize="FEED_EXAMPLES" not in os.environ, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps)
def test_each_line_of_any_writer_is_in_the_ledger_once_or_in_a_lost_place(steps: list[tuple[str, int]]):
    writer = Writer()
    reader = Reader(writer)
    try:
        # given a reader that has begun, and anything that happens to the files and to it
        reader.draw(0)
        for name, n in steps:
            writer.do(name, n) if name in WRITES else getattr(reader, name)(n)
        # when the writer ends its line, and all is read
        writer.do("end_line", 0)
        reader.read_all()
        # then
        counts = Counter(reader.ids())
        assert [name for name, count in counts.items() if count > 1] == []
        assert unnamed([*writer.past, *writer.generations], set(counts), reader) == []
        # and nothing is called lost that nobody took away
        harmless = not {name for name, _ in steps} & {"overwrite", "empty", "replace", "remove", "compress"}
        assert not harmless or (reader.lost() == [] and writer.count - len(counts) <= sum(name == "rotate" for name, _ in steps))
    finally:
        reader.close()
        writer.close()
