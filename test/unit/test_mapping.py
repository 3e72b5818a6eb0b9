"""Task mappings: each covers its shape once, the product is what it is defined to be, text and closed form say the same as enumeration."""

from itertools import product
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlc.errors import OptionError
from mlc.layout.mapping import TaskMap, repeat, spatial


def _maps(rank: int) -> st.SearchStrategy[TaskMap]:
    shape = st.tuples(*[st.integers(1, 3)] * rank)
    factor = st.builds(lambda make, s: make(*s), st.sampled_from([spatial, repeat]), shape)
    return st.lists(factor, min_size=1, max_size=3).map(lambda fs: TaskMap(rank, tuple(f for m in fs for f in m.factors)))


few = settings(deadline=None, max_examples=50)  # the machine may be busy
MAPS = st.integers(1, 3).flatmap(_maps)
TRIPLES = st.integers(1, 2).flatmap(lambda rank: st.tuples(*[_maps(rank)] * 3))


def test_factors() -> None:
    assert [spatial(2, 3).tasks(w) for w in range(6)] == [[(i, j)] for i in range(2) for j in range(3)]
    assert repeat(2, 3).tasks(0) == [(i, j) for i in range(2) for j in range(3)]
    assert (spatial(2, 3).workers, repeat(2, 3).workers) == (6, 1)


def test_a_warp_of_row_vectors() -> None:
    m = repeat(4, 1) * spatial(8, 16) * repeat(1, 4)
    assert (m.shape, m.workers, len(m.tasks(0))) == ((32, 64), 128, 16)
    assert m.tasks(17)[:5] == [(1, 4), (1, 5), (1, 6), (1, 7), (9, 4)]


@few
@given(MAPS)
def test_covers_its_shape_once(m: TaskMap) -> None:
    done = [task for w in range(m.workers) for task in m.tasks(w)]
    assert sorted(done) == list(product(*map(range, m.shape)))
    assert all(len(m.tasks(w)) == len(m.tasks(0)) for w in range(m.workers))


@few
@given(TRIPLES)
def test_product_is_its_definition(maps: tuple[TaskMap, TaskMap, TaskMap]) -> None:
    f, g, _ = maps
    for w in range(f.workers * g.workers):
        expected = [tuple(t * n + u for t, n, u in zip(outer, g.shape, inner, strict=True))
                    for outer in f.tasks(w // g.workers) for inner in g.tasks(w % g.workers)]
        assert (f * g).tasks(w) == expected


@few
@given(TRIPLES)
def test_product_is_associative(maps: tuple[TaskMap, TaskMap, TaskMap]) -> None:
    f, g, h = maps
    assert (f * g) * h == f * (g * h)


@few
@given(MAPS)
def test_digits_are_the_closed_form(m: TaskMap) -> None:
    for w in range(m.workers):
        for t, task in enumerate(m.tasks(w)):
            index = [0] * m.rank
            for d in m.digits():
                index[d.dim] += (w if d.spatial else t) // d.period % d.extent * d.stride
            assert tuple(index) == task


@few
@given(MAPS)
def test_text_round_trip(m: TaskMap) -> None:
    assert TaskMap.parse(str(m)) == m
    assert TaskMap.parse(str(m).replace(" ", "\t")) == m
    assert hash(TaskMap.parse(str(m))) == hash(m)


def test_factors_of_one_point_are_dropped() -> None:
    assert spatial(1, 1) * repeat(2, 1) * spatial(1, 1) == repeat(2, 1)
    assert spatial(1, 1) == repeat(1, 1)
    assert str(spatial(1, 1)) == "repeat(1, 1)"
    assert repeat(1) != repeat(1, 1)
    assert prod(repeat(1, 1).shape) == 1


def test_does_not_commute() -> None:
    assert spatial(4) * repeat(2) != repeat(2) * spatial(4)
    assert (spatial(4) * repeat(2)).tasks(1) == [(2,), (3,)]
    assert (repeat(2) * spatial(4)).tasks(1) == [(1,), (5,)]


@pytest.mark.parametrize(("text", "message"), [
    ("", "position 1: expected 'spatial' or 'repeat', found the end"),
    ("foo(1)", "position 1: expected 'spatial' or 'repeat', found 'foo'"),
    ("repeat(", "position 8: expected a number, found the end"),
    ("repeat()", "position 8: expected a number, found ')'"),
    ("repeat(4, 0)", "position 11: extent 0 is not in [1, 10^18)"),
    ("repeat(-1)", "position 8: unexpected '-'"),
    ("repeat(1 2)", "position 10: expected ',' or ')', found '2'"),
    ("repeat(1, 2) * spatial(3)", "position 16: factor has rank 1, expected 2"),
    ("repeat(1, 2)  spatial(3, 4)", "position 15: expected '*', found 'spatial'"),
    ("repeat(1, 2) * ", "position 15: expected 'spatial' or 'repeat', found the end"),
    ("repeat(1, 2) $", "position 14: unexpected '$'"),
    ("repeat(" + "9" * 5000 + ")", "position 8: extent 999999999999999999... is not in [1, 10^18)"),
])
def test_bad_text_names_the_position(text: str, message: str) -> None:
    with pytest.raises(OptionError) as error:
        TaskMap.parse(text)
    assert message in str(error.value)


@few
@given(st.text(alphabet="spatilre(),*0123 x", max_size=24))
def test_any_text_parses_or_is_an_option_error(text: str) -> None:
    try:
        m = TaskMap.parse(text)
    except OptionError:
        return
    assert TaskMap.parse(str(m)) == m


def test_ranks_must_agree() -> None:
    with pytest.raises(OptionError, match="ranks 1 and 2"):
        _ = repeat(2) * spatial(1, 2)
    with pytest.raises(OptionError, match="at least 1"):
        repeat(2, 0)
