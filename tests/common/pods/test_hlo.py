"""The reader of XLA's text on snippets with known collectives, loops and sizes."""

import pytest

from common.pods import hlo, hlo_loops

HEADER = "HloModule m, is_scheduled=true, num_partitions=16\n\n"


def collectives(body: str) -> dict[str, hlo.Collectives]:
    text = f"{HEADER}ENTRY %main (p: f32[8]) -> f32[8] {{\n{body}\n}}\n"
    return hlo.collectives(hlo.read_module(text))


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ("f32[]", 4),
        ("f32[3,5]{1,0:T(8,128)S(1)}", 60),
        ("(bf16[4]{0}, pred[3], /*index=2*/s32[2]{0})", 8 + 3 + 8),
        ("((f32[2,2]), (c64[2], u8[7]))", 16 + 16 + 7),
        ("f8e4m3fn[10]", 10),
        ("s4[3]", 2),
        ("token[]", 0),
        ("f32[0,7]", 0),
    ],
)
def test_sizes_of_shapes(shape: str, size: int) -> None:
    assert hlo.array_bytes(shape) == size


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ("replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}", 4),
        ("replica_groups=[2,8]<=[16]", 8),
        ("replica_groups=[4,4]<=[4,4]T(1,0)", 4),
        ("replica_groups=mesh['a'=4,'b'=1,'c'=2], device_ids=(0,4,1,5) {'a'}, x={'c'}", 4),
        ("replica_groups=mesh['a'=4,'c'=2] {'a','c'}", 8),
        ("replica_groups=mesh['a'=8] {'a':(1)2}", 2),
        ("replica_groups={}", 16),
        ("channel_id=1", 16),
    ],
)
def test_sizes_of_groups(groups: str, size: int) -> None:
    assert hlo.group_size(groups, 16) == size


def test_a_merged_all_reduce_is_one_operation_of_all_its_arrays() -> None:
    found = collectives(
        "  %ar = (f32[10,10]{1,0:T(8,128)S(1)}, f32[5]{0}, f32[]{:T(128)}) "
        "all-reduce(%a, %b, %c), channel_id=1, replica_groups=[1,16]<=[16], to_apply=%add\n"
        '  %g = f32[5]{0} get-tuple-element(%ar), index=1, metadata={op_name="all-reduce("}'
    )
    assert found == {"all-reduce": hlo.Collectives(1, 424, 424 * 2 * 15 / 16)}


def test_an_asynchronous_pair_counts_once_and_by_its_result() -> None:
    found = collectives(
        "  %ars = f32[8]{0} all-reduce-start(%p), replica_groups=[4,4]<=[16], to_apply=%add\n"
        "  %ard = f32[8]{0} all-reduce-done(%ars)\n"
        "  %ags = (f32[8]{0}, f32[32]{0}) all-gather-start(%p), replica_groups=[4,4]<=[16]\n"
        "  %agd = f32[32]{0} all-gather-done(%ags)\n"
        "  %cps = (f32[8]{0}, f32[8]{0}, u32[]{:S(2)}, u32[]{:S(2)}) "
        "collective-permute-start(%p), source_target_pairs={{0,1},{1,0}}\n"
        "  %cpd = f32[8]{0} collective-permute-done(%cps)"
    )
    assert found == {
        "all-reduce": hlo.Collectives(1, 32, 32 * 2 * 3 / 4),
        "all-gather": hlo.Collectives(1, 128, 128 * 3 / 4),
        "collective-permute": hlo.Collectives(1, 32, 32),
    }


def test_a_reduce_scatter_is_as_large_as_what_goes_in() -> None:
    found = collectives(
        "  %rs = f32[8]{0} reduce-scatter(%p), replica_groups=[4,4]<=[16], dimensions={0}\n"
        "  %a = (f32[2]{0}, f32[2]{0}) all-to-all(%x, %y), replica_groups={{0,1},{2,3}}"
    )
    assert found == {
        "reduce-scatter": hlo.Collectives(1, 128, 96),
        "all-to-all": hlo.Collectives(1, 16, 8),
    }


def test_what_slices_exchange_is_told_apart() -> None:
    attributes = (
        '_xla_megascale_target="{1,2,3,4}x{0:15}",_xla_megascale_transfer_type="ALL_REDUCE"'
    )
    found = collectives(
        "  %ar = f32[160]{0} all-reduce(%p), replica_groups=[4,16]<=[64], to_apply=%add\n"
        "  %send = (f32[10]{0}, u32[]{:S(2)}, token[]) send(%part, %after), channel_id=2, "
        f"is_host_transfer=true, frontend_attributes={{{attributes}}}\n"
        "  %recv = (f32[10]{0}, u32[]{:S(2)}, token[]) recv(%after), channel_id=1, "
        f"is_host_transfer=true, frontend_attributes={{{attributes}}}\n"
        "  %done = (f32[10]{0}, token[]) recv-done(%recv), channel_id=1\n"
        "  %other = (f32[9]{0}, u32[], token[]) recv(%after), channel_id=3"  # to no other slice
    )
    assert found == {
        "all-reduce": hlo.Collectives(1, 640, 640 * 2 * 15 / 16),
        "all-reduce between slices": hlo.Collectives(1, 40, 40 * 2 * 3 / 4),
    }


def test_collectives_inside_fusions_of_a_tpu_count_once() -> None:
    text = (
        HEADER
        + """
%async_collective_fusion.1 (q: f32[8]) -> f32[32] {
  %q = f32[8]{0} parameter(0)
  ROOT %ag.1 = f32[32]{0} all-gather(%q), channel_id=2, replica_groups=[4,4]<=[16]
}

%async_collective_fusion.2 (q: f32[8]) -> f32[32] {
  %q = f32[8]{0} parameter(0)
  ROOT %ag.2 = f32[32]{0} all-gather(%q), channel_id=2, replica_groups=[4,4]<=[16]
}

%all-reduce-scatter (input: f32[8]) -> f32[2] {
  %input = f32[8]{0} parameter(0)
  %ar = f32[8]{0} all-reduce(%input), channel_id=3, replica_groups={{0,1,2,3}}, to_apply=%add
  ROOT %slice = f32[2]{0} dynamic-slice(%ar, %i), dynamic_slice_sizes={2}
}

%on_another_core (q: f32[8]) -> f32[8] {
  %q = f32[8]{0} parameter(0)
  ROOT %ar.2 = f32[8]{0} all-reduce(%q), channel_id=4, replica_groups=[1,16]<=[16]
}

%never_called (q: f32[8]) -> f32[8] {
  ROOT %ar.9 = f32[8]{0} all-reduce(%q), channel_id=9, replica_groups=[1,16]<=[16]
}

ENTRY %main (p: f32[8]) -> f32[2] {
  %p = f32[8]{0} parameter(0)
  %start = f32[32]{0} fusion(%p), kind=kCustom, calls=%async_collective_fusion.1
  %done = f32[32]{0} fusion(%start), kind=kCustom, calls=%async_collective_fusion.2
  %cs = ((f32[8]{0}), (f32[8]{0})) call-start(%p), to_apply=%on_another_core
  %cd = f32[8]{0} call-done(%cs)
  ROOT %f = f32[2]{0} fusion(%p), kind=kCustom, calls=%all-reduce-scatter
}
"""
    )
    assert hlo.collectives(hlo.read_module(text)) == {
        "all-reduce": hlo.Collectives(1, 32, 32 * 2 * 15 / 16),
        "all-gather": hlo.Collectives(1, 128, 96),
        "reduce-scatter": hlo.Collectives(1, 32, 24),
    }


LOOP = """HloModule m, num_partitions=4

%cond (c: (s32[], f32[4,4])) -> pred[] {
  %n = s32[]{:T(128)} constant(10)
  %c = (s32[], f32[4,4]) parameter(0)
  %i = s32[] get-tuple-element(%c), index=0
  ROOT %lt = pred[] compare(%i, %n), direction=DIRECTION
}

%body (c: (s32[], f32[4,4])) -> (s32[], f32[4,4]) {
  %c = (s32[], f32[4,4]) parameter(0)
  %i = s32[] get-tuple-element(%c), index=0
  %w = f32[4,4] get-tuple-element(%c), index=1
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
  %y = f32[4,4]{1,0} dot(%w, %w), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  %ar = f32[4,4] all-reduce(%y), channel_id=1, replica_groups=[1,4]<=[4], to_apply=%add
  ROOT %t = (s32[], f32[4,4]) tuple(%next, %ar)
}

ENTRY %main (p: (s32[], f32[4,4])) -> (s32[], f32[4,4]) {
  %p = (s32[], f32[4,4]) parameter(0)
  ROOT %loop = (s32[], f32[4,4]) while(%p), condition=%cond, body=%body KNOWN
}
"""


@pytest.mark.parametrize(
    ("known", "direction", "trips"),
    [
        (', backend_config={"known_trip_count":{"n":"7"}}', "LT", 7),
        ("", "LT", 10),  # TPU text: only the bound of the counter
        ("", "NE", None),
    ],
)
def test_what_a_loop_repeats_counts_as_often(known: str, direction: str, trips: int | None) -> None:
    module = hlo.read_module(LOOP.replace("KNOWN", known).replace("DIRECTION", direction))
    times = trips or 1
    assert module.unknown_loops == (trips is None)
    assert hlo.collectives(module)["all-reduce"].count == times
    assert hlo.collectives(module)["all-reduce"].bytes == 64 * times
    flops, traffic = hlo_loops.loop_factors(module)
    assert flops == pytest.approx(times) and traffic == pytest.approx(times)


def test_the_factor_of_a_loop_weighs_it_by_its_share_of_the_arithmetic() -> None:
    outside = "  %z = f32[4,4]{1,0} dot(%v, %v), lhs_contracting_dims={1}\n"
    text = LOOP.replace("KNOWN", "").replace("DIRECTION", "LT")
    text = text.replace(
        "  ROOT %loop", f"  %v = f32[4,4] get-tuple-element(%p), index=1\n{outside}  ROOT %loop"
    )
    flops, _ = hlo_loops.loop_factors(hlo.read_module(text))
    body, once = 2 * 4**3 + 1, 2 * 4**3  # a product and a counter; a product
    condition = 1
    assert flops == pytest.approx((10 * (body + condition) + once) / (body + condition + once))


def test_a_loop_reads_and_writes_slices_of_its_stacked_arrays() -> None:
    text = """HloModule m

%sliced (w: f32[100,8], i: s32[]) -> f32[1,8] {
  %i = s32[] parameter(1)
  %w = f32[100,8]{1,0} parameter(0)
  %zero = s32[] constant(0)
  %b = f32[100,8]{1,0} bitcast(%w)
  ROOT %s = f32[1,8]{1,0} dynamic-slice(%b, %i, %zero), dynamic_slice_sizes={1,8}
}

%updated (w: f32[100,8], u: f32[1,8], i: s32[]) -> f32[100,8] {
  %w = f32[100,8]{1,0} parameter(0)
  %u = f32[1,8]{1,0} parameter(1)
  %i = s32[] parameter(2)
  %zero = s32[] constant(0)
  ROOT %d = f32[100,8]{1,0} dynamic-update-slice(%w, %u, %i, %zero)
}

%cond (c: (s32[], f32[100,8])) -> pred[] {
  %c = (s32[], f32[100,8]) parameter(0)
  %i = s32[] get-tuple-element(%c), index=0
  %n = s32[] constant(100)
  ROOT %lt = pred[] compare(%i, %n), direction=LT
}

%body (c: (s32[], f32[100,8])) -> (s32[], f32[100,8]) {
  %c = (s32[], f32[100,8]) parameter(0)
  %i = s32[] get-tuple-element(%c), index=0
  %w = f32[100,8] get-tuple-element(%c), index=1
  %s = f32[1,8]{1,0} fusion(%w, %i), kind=kLoop, calls=%sliced
  %d = f32[100,8]{1,0} fusion(%w, %s, %i), kind=kLoop, calls=%updated
  ROOT %t = (s32[], f32[100,8]) tuple(%i, %d)
}

ENTRY %main (p: (s32[], f32[100,8])) -> f32[100,8] {
  %p = (s32[], f32[100,8]) parameter(0)
  %x = f32[100,8] get-tuple-element(%p), index=1
  %y = f32[100,8]{1,0} copy(%x)
  %loop = (s32[], f32[100,8]) while(%p), condition=%cond, body=%body
  ROOT %out = f32[100,8] get-tuple-element(%loop), index=1
}
"""
    _, traffic = hlo_loops.loop_factors(hlo.read_module(text))
    slice_fusion = 32 + 4 + 32  # reads a row and the index, writes a row
    update_fusion = 32 + 4 + 32
    condition = 4 + 4 + 1
    once = 2 * 3200  # the copy
    inner = slice_fusion + update_fusion + condition
    assert traffic == pytest.approx((once + 100 * inner) / (once + inner))


def test_nothing_is_found_in_an_empty_text() -> None:
    module = hlo.read_module("")
    assert hlo.collectives(module) == {} and hlo_loops.loop_factors(module) == (1.0, 1.0)
