"""The roofline's reading of a profile."""

import pytest

from tests.benchmarks.peers.operation_kinds import kind_of


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("dot_general.337", "products"),
        ("ynn_fusion.19", "products"),
        ("conv_general_dilated.26", "products"),  # its fusion is not one of elementwise work
        ("while.30", "loops"),
        ("wrapped_reduce.3", "sums"),
        ("multiply_reduce_fusion", "sums"),
        ("wrapped_copy.7", "copies"),
        ("copy_bitcast_fusion.8", "copies"),
        ("dynamic-update-slice_transpose_fusion", "copies"),
        ("broadcast_multiply_fusion.1", "elementwise"),  # what it computes, it computes
        ("convert_fusion", "elementwise"),
        ("select_select_fusion", "copies"),
        ("tanh.4", "elementwise"),
    ],
)
def test_an_operation_is_of_the_kind_of_its_work(operation: str, kind: str) -> None:
    assert kind_of(operation) == kind
