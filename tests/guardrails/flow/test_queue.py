from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrails.call import Priority
from guardrails.flow.queue import PRIORITIES, Queue, Rules, Waiting

PATIENT: dict[Priority, float] = {"interactive": 1e6, "standard": 1e6, "bulk": 1e6}


def fill(queue: Queue, *waiting: Waiting) -> None:
    for each in waiting:
        queue.put(each)


def drain(queue: Queue, now: float = 0.0) -> list[Waiting]:
    found = []
    while (each := queue.take(now)) is not None:
        found.append(each)
    return found


def test_the_urgent_go_first() -> None:
    queue = Queue()
    bulk, standard, urgent = (Waiting(0.0, name) for name in ("bulk", "standard", "interactive"))
    fill(queue, bulk, standard, urgent)
    assert drain(queue) == [urgent, standard, bulk]


def test_a_lane_less_urgent_than_asked_for_is_not_served() -> None:
    queue = Queue()
    bulk, standard = Waiting(0.0, "bulk"), Waiting(0.0, "standard")
    fill(queue, bulk, standard)
    assert queue.take(0.0, "interactive") is None
    assert queue.take(0.0, "standard") is standard
    assert queue.take(0.0, "standard") is None
    assert len(queue) == 1


def test_first_in_first_out_until_the_oldest_waits_too_long() -> None:
    queue = Queue(Rules(patience={"interactive": 2.0, "standard": 2.0, "bulk": 2.0}))
    first, second, third = (Waiting(at) for at in (0.0, 0.1, 0.2))
    fill(queue, first, second, third)
    assert queue.take(0.5) is first
    assert queue.take(0.61) is third  # the oldest waits for 0.51 s, more than a quarter of 2 s
    assert queue.take(0.61) is second


def test_pressure_on_one_tenant_leaves_the_other_first_in_first_out() -> None:
    queue = Queue(Rules())
    loud = [Waiting(0.0 + number / 100, tenant="loud") for number in range(10)]
    quiet = [Waiting(0.5, tenant="quiet"), Waiting(0.55, tenant="quiet")]
    fill(queue, *loud, *quiet)
    order = drain(queue, 0.6)
    assert [each for each in order if each.tenant == "quiet"] == quiet
    assert next(each for each in order if each.tenant == "loud") is loud[-1]


def test_a_flood_costs_the_others_no_turn() -> None:
    queue = Queue(Rules(patience=PATIENT))
    fill(queue, *(Waiting(0.0, tenant="loud") for _ in range(500)))
    fill(queue, *(Waiting(0.0, tenant="quiet") for _ in range(5)))
    first = Counter(each.tenant for each in drain(queue)[:11])
    assert first["quiet"] == 5


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcd"), st.floats(0.25, 4), min_size=2),
    st.lists(st.floats(0.1, 10), min_size=1, max_size=7),
)
def test_busy_tenants_get_work_in_proportion_to_their_weights(
    weights: dict[str, float], costs: list[float]
) -> None:
    queue = Queue(Rules(length=10**6, patience=PATIENT, weights=weights))
    for tenant in weights:
        fill(queue, *(Waiting(0.0, tenant=tenant, cost=costs[n % len(costs)]) for n in range(600)))
    served: Counter[str] = Counter()
    for _ in range(400):
        each = queue.take(0.0)
        assert each is not None
        served[each.tenant] += each.cost
    # Deficit round robin: the difference of two shares is bounded by a round and the largest cost each.
    bound = max(costs) / min(weights.values()) + 1 + max(costs)
    shares = [served[tenant] / weight for tenant, weight in weights.items()]
    assert max(shares) - min(shares) <= 2 * bound


def test_who_would_be_late_is_named_and_nobody_else() -> None:
    queue = Queue(Rules())
    early, late = Waiting(0.0), Waiting(1.0)
    fill(queue, early, late)
    assert queue.next_due(0.5) == pytest.approx(1.5)
    assert queue.late(1.49, 0.5) == []
    assert queue.late(1.51, 0.5) == [early]
    assert drain(queue, 1.51) == [late]


def test_the_callers_own_deadline_counts_if_it_is_earlier() -> None:
    queue = Queue(Rules())
    hurried, patient = Waiting(0.0, deadline=1.0), Waiting(0.0, deadline=99.0)
    fill(queue, patient, hurried)
    assert queue.late(0.81, 0.2) == [hurried]
    assert queue.late(1.79, 0.2) == []
    assert queue.late(1.81, 0.2) == [patient]


def test_a_slow_endpoint_makes_no_wait_hopeless() -> None:
    queue = Queue(Rules())
    fill(queue, Waiting(0.0))
    assert queue.late(0.79, ttft=100.0) == []
    assert len(queue.late(0.81, ttft=100.0)) == 1


def test_bulk_has_more_patience() -> None:
    queue = Queue(Rules())
    fill(queue, Waiting(0.0, "bulk"))
    assert queue.late(100.0, 0.1) == []


def test_when_full_the_last_in_turn_of_the_longest_line_leaves() -> None:
    queue = Queue(Rules(length=3))
    loud = [Waiting(0.0, tenant="loud") for _ in range(3)]
    fill(queue, *loud)
    quiet = Waiting(0.0, tenant="quiet")
    queue.put(quiet)
    assert queue.trim(0.0, quiet) is loud[-1]
    more = Waiting(0.0, tenant="loud")
    queue.put(more)
    assert queue.trim(0.0, more) is more
    # Under pressure the oldest is the last in turn.
    fresh = Waiting(1.0, tenant="loud")
    queue.put(fresh)
    assert queue.trim(1.0, fresh) is loud[0]


def test_when_full_the_least_urgent_leave_first() -> None:
    queue = Queue(Rules(length=2))
    bulk, standard, urgent = Waiting(0.0, "bulk"), Waiting(0.0, "standard"), Waiting(0.0, "interactive")
    fill(queue, bulk, standard)
    queue.put(urgent)
    assert queue.trim(0.0, urgent) is bulk
    again = Waiting(0.0, "bulk")
    queue.put(again)
    assert queue.trim(0.0, again) is again


def test_one_who_gave_up_is_gone() -> None:
    queue = Queue()
    one, other = Waiting(0.0), Waiting(0.0)
    fill(queue, one, other)
    assert queue.remove(one)
    assert not queue.remove(one)
    assert drain(queue) == [other]
    assert queue.late(1e9, 0.0) == []
    assert queue.next_due(0.0) is None


def test_many_who_give_up_leave_nothing_behind() -> None:
    queue = Queue()
    for number in range(5000):
        one = Waiting(number * 1e-6, tenant=str(number))
        queue.put(one)
        queue.remove(one)
    lane = queue._lanes["interactive"]
    assert len(lane._due) <= 100
    assert not lane.lines
    assert not lane.turns


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 30))
def test_random_use_keeps_every_rule(seed: int, length: int) -> None:
    rng = random.Random(seed)
    queue = Queue(Rules(length=length, weights={"a": 2.0}))
    inside: set[Waiting] = set()
    now = 0.0
    for _ in range(rng.randrange(80)):
        now += rng.choice((0.0, 0.01, 0.3))
        action = rng.random()
        if action < 0.6:
            newcomer = Waiting(
                now - rng.choice((0.0, 0.0, 1.0)),
                rng.choice(PRIORITIES),
                rng.choice("abc"),
                rng.choice((0.0, 1.0, 3.5, 100.0)),
                rng.choice((None, None, now + 0.5)),
            )
            queue.put(newcomer)
            inside.add(newcomer)
            leaving = queue.trim(now, newcomer)
            if leaving is not None:
                inside.remove(leaving)
        elif action < 0.85:
            taken = queue.take(now)
            assert (taken is None) == (not inside)
            if taken is not None:
                inside.remove(taken)
                ranks = [PRIORITIES.index(other.priority) for other in inside]
                assert all(PRIORITIES.index(taken.priority) <= rank for rank in ranks)
                _check_order(queue, taken, inside, now)
        elif action < 0.92 and inside:
            gone = rng.choice(sorted(inside, key=lambda w: w.number))
            assert queue.remove(gone)
            inside.remove(gone)
        else:
            for late in queue.late(now, 0.2):
                inside.remove(late)
                due = min(late.arrived + queue.rules.patience[late.priority], late.deadline or 1e9)
                assert now >= due - 0.2
        assert len(queue) == len(inside) <= length
        assert sum(queue.depths().values()) == len(inside)
    assert set(drain(queue, now)) == inside


def _check_order(queue: Queue, taken: Waiting, inside: set[Waiting], now: float) -> None:
    """Within its line, the taken one was the oldest to be queued, or under pressure the newest."""
    line = [
        other.number for other in inside if (other.priority, other.tenant) == (taken.priority, taken.tenant)
    ]
    if line:
        assert taken.number < min(line) or taken.number > max(line)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Rules(length=-1),
        lambda: Rules(patience={"interactive": 1.0}),
        lambda: Rules(weights={"a": 0.0}),
    ],
)
def test_rules_that_cannot_work_are_refused(make: object) -> None:
    with pytest.raises(ValueError, match="queue"):
        make()  # type: ignore[operator]
