"""When an LLM is left alone, and when it is tried again."""

from symbiosis.gateway.config.schema import BreakerConfig
from symbiosis.gateway.upstreams.breaker import LONGEST_CLOSURE_S, CircuitBreaker


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def breaker() -> tuple[CircuitBreaker, Clock]:
    clock = Clock()
    return CircuitBreaker(BreakerConfig(failures=3, window_s=30, open_s=15), clock), clock


def fail(circuit: CircuitBreaker, times: int) -> None:
    for _ in range(times):
        assert circuit.admit()
        circuit.failed()


def test_it_opens_after_failures_and_closes_after_a_probe() -> None:
    circuit, clock = breaker()
    fail(circuit, 2)
    assert circuit.state == "closed"
    fail(circuit, 1)
    assert (circuit.state, circuit.remaining_s, circuit.admit()) == ("open", 15, False)
    clock.now += 15
    assert (circuit.state, circuit.remaining_s) == ("half-open", 0)
    assert (circuit.admit(), circuit.admit()) == (True, False)
    circuit.succeeded()
    assert circuit.state == "closed"
    fail(circuit, 2)
    assert circuit.state == "closed"


def test_a_probe_that_fails_opens_it_again() -> None:
    circuit, clock = breaker()
    fail(circuit, 3)
    clock.now += 15
    fail(circuit, 1)
    assert (circuit.state, circuit.remaining_s) == ("open", 15)


def test_a_probe_that_tells_nothing_lets_the_next_one_through() -> None:
    circuit, clock = breaker()
    fail(circuit, 3)
    clock.now += 15
    assert circuit.admit()
    circuit.released()
    assert (circuit.state, circuit.admit()) == ("half-open", True)


def test_failures_outside_the_window_do_not_count() -> None:
    circuit, clock = breaker()
    fail(circuit, 2)
    clock.now += 31
    fail(circuit, 2)
    assert circuit.state == "closed"


def test_few_failures_among_many_answers_do_not_count() -> None:
    circuit, _ = breaker()
    for _ in range(10):
        circuit.succeeded()
    fail(circuit, 9)
    assert circuit.state == "closed"
    fail(circuit, 1)
    assert circuit.state == "open"


def test_a_pause_that_the_upstream_asks_for_counts_at_once_and_is_bounded() -> None:
    circuit, clock = breaker()
    assert circuit.admit()
    circuit.failed(40)
    assert (circuit.state, circuit.remaining_s) == ("open", 40)
    circuit.failed(10)  # of a call that was under way: the longer pause stays
    assert circuit.remaining_s == 40
    circuit.failed(1e9)
    assert circuit.remaining_s == LONGEST_CLOSURE_S
    clock.now += LONGEST_CLOSURE_S
    assert circuit.admit()


def test_an_answer_of_a_call_from_before_does_not_close_it() -> None:
    circuit, _ = breaker()
    fail(circuit, 3)
    circuit.succeeded()
    assert circuit.state == "open"
