"""Whatever the OpenAPI document allows, and much that it does not: the gateway answers, and never with a 500.

Longer, as an admin:  python -m bench.fuzzing openapi --seconds 600
"""

from gateway_world import RunningGateway

from bench.fuzzing.openapi import chat_of_any_shape, try_everything

QUICK = 2


def test_a_few_requests_of_each_kind(door: RunningGateway) -> None:
    assert try_everything(door.address, QUICK, {}) > 10
    chat_of_any_shape(door.address, 3 * QUICK)
