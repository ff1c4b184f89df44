"""The search for the cheapest cover finds what trying everything finds, and something good where it is cut off."""

from itertools import product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ai_proxy.scheduler.cover import MOST_ITEMS, TRIFLE, Search
from ai_proxy.scheduler.greedy import Item, Way, greedy
from ai_proxy.scheduler.planner import NODES

ENOUGH = 100_000


@st.composite
def items(draw: st.DrawFn, resources: int, *, most: int, ways: int = 1, least_given: int = 0) -> list[Item]:
    """Items that stand for themselves."""
    gives = st.tuples(*[st.integers(least_given, 12)] * resources)
    way = st.builds(Way, st.integers(1, 30).map(float), gives)
    some = st.lists(way, min_size=1, max_size=ways).map(tuple)
    return draw(st.lists(some.map(Item), max_size=most))


@st.composite
def tangled(draw: st.DrawFn, resources: int, *, most: int) -> list[Item]:
    """Items some of which take of a resource, some of which must be chosen, some of which bring others along."""
    loose = draw(items(resources, most=most, ways=2, least_given=-3))
    along = [draw(st.sampled_from((0, 0, 1 << number))) & ~(1 << index) for index, number in _numbers(draw, len(loose))]
    for _ in loose:
        for index, bits in enumerate(along):
            for other, more in enumerate(along):
                if bits >> other & 1:
                    along[index] |= more & ~(1 << index)
    return [Item(item.ways, along[index], draw(st.integers(0, 9)) == 0) for index, item in enumerate(loose)]


def _numbers(draw: st.DrawFn, size: int) -> list[tuple[int, int]]:
    return [(index, draw(st.integers(0, size - 1))) for index in range(size)]


def shortages(resources: int, least: int = -5) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(least, 30), min_size=resources, max_size=resources)


def is_cover(items: list[Item], short: list[int], chosen: dict[int, int]) -> bool:
    bits = sum(1 << index for index in chosen)
    needed = sum(1 << index for index, item in enumerate(items) if item.must)
    for index in chosen:
        needed |= items[index].along
    given = [sum(items[index].ways[way].gives[r] for index, way in chosen.items()) for r in range(len(short))]
    return not needed & ~bits and all(got >= missing for got, missing in zip(given, short, strict=True))


def cost(items: list[Item], chosen: dict[int, int]) -> float:
    return sum(items[index].ways[way].cost for index, way in chosen.items())


def cheapest(items: list[Item], short: list[int]) -> float | None:
    """The least cost, found by trying everything."""
    found = []
    for ways in product(*(range(-1, len(item.ways)) for item in items)):
        chosen = {index: way for index, way in enumerate(ways) if way >= 0}
        if is_cover(items, short, chosen):
            found.append(cost(items, chosen))
    return min(found, default=None)


@pytest.mark.slow
@example(
    (
        [Item((Way(1.0, (11, 0)),)), Item((Way(1.0, (4, 1)),)), Item((Way(1.0, (0, -1)), Way(3.0, (5, 0))), 0, True)],
        [15, 0],
    )
)
@given(st.integers(1, 3).flatmap(lambda r: st.tuples(tangled(r, most=6), shortages(r))))
def test_the_search_finds_the_cheapest_cover(problem: tuple[list[Item], list[int]]) -> None:
    items, short = problem
    search = Search(items, short, nodes=ENOUGH)
    cover = search.run()
    best = cheapest(items, short)
    assert search.complete
    assert (cover is None) == (best is None)
    if cover is not None and best is not None:
        assert is_cover(items, short, cover.chosen)
        assert abs(cover.cost - best) <= TRIFLE


@pytest.mark.slow
@given(st.integers(1, 2).flatmap(lambda r: st.tuples(items(r, most=10), shortages(r))))
def test_ten_items_are_searched_within_the_budget_of_a_plan(problem: tuple[list[Item], list[int]]) -> None:
    items, short = problem
    search = Search(items, short, nodes=NODES)
    cover = search.run()
    assert search.complete
    assert (cover.cost if cover else None) == cheapest(items, short)


@pytest.mark.slow
@given(items(2, most=6, ways=2), shortages(2), st.floats(0, 40))
def test_only_what_is_below_the_bound_is_of_interest(items: list[Item], short: list[int], bound: float) -> None:
    cover = Search(items, short, bound=bound, nodes=ENOUGH).run()
    best = cheapest(items, short)
    assert (cover is not None) == (best is not None and best < bound - TRIFLE)


@pytest.mark.slow
@given(items(2, most=8), shortages(2))
def test_a_search_without_a_budget_finds_a_cover_where_there_is_one(items: list[Item], short: list[int]) -> None:
    gentle = Way(0.5, (0, 0))
    items = [Item((gentle, *item.ways)) for item in items]
    search = Search(items, short, nodes=0)
    cover = search.run()
    assert not search.complete
    assert (cover is None) == (cheapest([Item(item.ways[1:]) for item in items], short) is None)
    assert cover is None or is_cover(items, short, cover.chosen)


@pytest.mark.slow
@given(tangled(2, most=6), shortages(2))
def test_a_greedy_cover_is_one_and_nothing_in_it_is_in_vain(items: list[Item], short: list[int]) -> None:
    chosen = greedy(items, short)
    if chosen is None:
        return
    assert is_cover(items, short, chosen)
    for spared in chosen:
        others = {index: way for index, way in chosen.items() if index != spared}
        assert not is_cover(items, short, others)


@pytest.mark.slow
@given(st.integers(1, 3).flatmap(lambda r: st.tuples(items(r, most=7), shortages(r, least=0))))
def test_a_greedy_cover_costs_at_most_twice_the_least_for_each_resource(problem: tuple[list[Item], list[int]]) -> None:
    items, short = problem
    chosen, best = greedy(items, short), cheapest(items, short)
    assert (chosen is None) == (best is None)
    if chosen is not None and best is not None:
        assert cost(items, chosen) <= 2 * len(short) * best


def least_for(items: list[Item], short: int) -> float:
    """The least cost for one resource, by the amounts that can be reached."""
    least = [0.0, *[float("inf")] * short]
    for item in items:
        way = item.ways[0]
        for reached in range(short, 0, -1):
            least[reached] = min(least[reached], least[max(0, reached - way.gives[0])] + way.cost)
    return least[short]


@pytest.mark.slow
@given(st.data())
def test_of_more_items_than_are_searched_the_cover_still_costs_at_most_twice_the_least(data: st.DataObject) -> None:
    one = st.builds(lambda cost, given: Item((Way(float(cost), (given,)),)), st.integers(1, 50), st.integers(1, 9))
    crowd = data.draw(st.lists(one, min_size=MOST_ITEMS + 1, max_size=2 * MOST_ITEMS))
    short = data.draw(st.integers(1, 60))
    search = Search(crowd, [short], nodes=NODES)
    cover = search.run()
    best = least_for(crowd, short)
    assert not search.complete
    assert (cover is None) == (best == float("inf"))
    assert cover is None or cover.cost <= 2 * best
