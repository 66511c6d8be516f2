"""Reading a compiled program's text: instructions, shapes, loops; products, moves and collectives; layers."""

from pathlib import Path

import pytest

from r23d_jax.compilers import figures, hlo, layers
from r23d_jax.compilers.products import products

HERE = Path(__file__).parent
TPU, GPU = ((HERE / name).read_text() for name in ("tpu.hlo", "gpu.hlo"))

# Pairs of output and kernel position of one axis of 8 or 16 with a kernel of 3 and padding of 1: 3 a place, less 1 at
# each end.
MEETS = {8: 22, 16: 46}


@pytest.fixture(scope="module")
def tpu():
    return hlo.parse(TPU)


@pytest.fixture(scope="module")
def gpu():
    return hlo.parse(GPU)


def instruction(program, name, computation=None):
    return program.computations[computation or program.entry][name]


def test_shapes_with_layouts_tiles_and_memories(tpu):
    shape = instruction(tpu, "b.1", "fused_conv").shapes[0]
    assert (shape.dtype, shape.dims, shape.order, shape.space) == ("bf16", (1, 3, 3, 64, 128), (0, 1, 2, 3, 4), 1)
    assert shape.bytes == 9 * 64 * 128 * 2 and shape.physical() == [1, 2, 3, 4]
    padded = instruction(tpu, "copy.1").shapes[0]
    assert padded.order == (1, 2, 3, 0, 4)
    assert padded.bytes == 4 * 8 * 8 * 8 * 128 * 2, "2 clips and 64 channels fill tiles of 8 and 128"
    assert [one.dtype for one in instruction(tpu, "copy-start.1").shapes] == ["bf16", "bf16", "u32"]
    pred = hlo.parse("ENTRY %m (x: pred[3]) -> pred[3] {\n  ROOT %x = pred[3]{0} parameter(0)\n}").body("m")[0]
    assert pred.bytes == 3 and pred.root


def test_instructions_their_operands_and_what_they_call(tpu):
    fusion = instruction(tpu, "fusion.4")
    assert fusion.operation == "fusion" and fusion.operands == ("copy.1", "copy-done.1")
    assert fusion.called == {"calls": ("fused_conv",)}
    assert fusion.op_name == "jit(step)/jvp(layer1)/0/conv1/1/square"
    assert instruction(tpu, "p.0").op_name == "batch['frames']"
    assert instruction(tpu, "while.1").root and tpu.entry == "main.9_spmd"


def test_a_loop_runs_its_body_as_often_as_its_condition_says(tpu):
    assert tpu.trips(instruction(tpu, "while.1")) == 3
    runs = {one.name: times for _, one, times in tpu.executed()}
    assert runs["next"] == 3 and runs["fusion.4"] == 1
    assert "convolution.7" not in runs and "sum.1" not in runs, "what a fusion or a reduction computes is part of it"
    known = hlo.parse(TPU.replace("body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"7"}}'))
    assert known.trips(instruction(known, "while.1")) == 7
    other = hlo.parse(TPU.replace("direction=LT", "direction=NE"))
    assert other.trips(instruction(other, "while.1")) is None
    assert figures.figures(other, "tpu")["loops_of_unknown_length"] == 1


def test_estimated_cycles_are_those_of_what_runs(tpu):
    assert figures.figures(tpu, "tpu")["cycles"] == 2000 + 5000 + 3 * 100


def test_operations_of_convolutions_leave_out_the_zeros(tpu, gpu):
    (inner, product), *rest = products(tpu, tpu.entry, instruction(tpu, "fusion.4"))
    assert not rest and inner.name == "convolution.7"
    assert product.flops == 2 * 2 * 64 * 128 * 4 * MEETS[8] ** 2
    assert (product.kind, product.layout, product.library) == ("convolution", "DHWNC", "xla")
    found = {name: next(products(gpu, gpu.entry, instruction(gpu, name)))[1] for name in ("conv", "dx", "dw.1", "gemm")}
    forward = 2 * 2 * 64 * 32 * MEETS[8] * MEETS[16] ** 2
    assert [found[name].flops for name in ("conv", "dx", "dw.1")] == [forward] * 3
    assert {found[name].layout for name in ("conv", "dx", "dw.1")} == {"NCDHW"}
    assert found["gemm"].flops == 2 * 2 * 101 * 32 and found["gemm"].library == "cublas"


@pytest.mark.parametrize(
    "window, source, result, pairs",
    [
        ("size=3", 8, 6, 18),
        ("size=3 stride=2 pad=1_1", 8, 4, 11),
        ("size=3 pad=1_1 lhs_dilate=2", 4, 7, 10),  # the gradient of a stride of 2: only what is no zero
        ("size=3 rhs_dilate=2", 8, 4, 12),
        ("size=3 pad=-1_-1", 8, 4, 12),
        ("size=4 stride=3 lhs_dilate=4", 4, 4, 4),  # a batch of matrix products written as a convolution
    ],
)
def test_windows(window, source, result, pairs):
    size = window[5]
    text = f"""ENTRY %m (a: f32[1,{source},1], b: f32[{size},1,1]) -> f32[1,{result},1] {{
  %a = f32[1,{source},1]{{2,1,0}} parameter(0)
  %b = f32[{size},1,1]{{2,1,0}} parameter(1)
  ROOT %c = f32[1,{result},1]{{2,1,0}} convolution(%a, %b), window={{{window}}}, dim_labels=b0f_0io->b0f
}}"""
    program = hlo.parse(text)
    (_, product), *_ = products(program, "m", instruction(program, "c"))
    assert product.flops == 2 * pairs and product.layout == "NWC"


def test_a_dot_product_written_as_a_convolution_is_none(tpu):
    program = hlo.parse(TPU.replace("conv_general_dilated", "dot_general"))
    found = figures.figures(program, "tpu")
    assert found["convolutions"] == {} and found["matmuls"] == 1


def test_what_only_moves_values(tpu, gpu):
    found = figures.figures(tpu, "tpu")
    assert found["transposes"] == {"count": 1, "bytes": instruction(tpu, "copy.1").bytes}
    assert found["prefetches"] == {"count": 1, "bytes": 9 * 64 * 128 * 2} and found["copies"]["count"] == 1
    found = figures.figures(gpu, "gpu")
    assert found["transposes"] == {"count": 1, "bytes": 27 * 64 * 32 * 2}, "an axis of size 1 can stand anywhere"
    assert found["copies"]["count"] == found["prefetches"]["count"] == 0


def test_bytes_are_those_of_operands_and_results(tpu, gpu):
    read = 2 * 64 * 8 * 16 * 16 * 2 + 27 * 64 * 32 * 2
    assert figures.traffic(gpu, gpu.entry, instruction(gpu, "conv")) == read + 2 * 32 * 8 * 16 * 16 * 2
    assert figures.traffic(gpu, gpu.entry, instruction(gpu, "y.0")) == 0
    assert figures.traffic(tpu, tpu.entry, instruction(tpu, "copy-start.1")) == 2 * 9 * 64 * 128 * 2


def test_collectives_and_whether_something_is_computed_meanwhile(tpu, gpu):
    found = figures.collectives(tpu)
    assert found["count"] == 3 and found["bytes"] == 3 * 128 * 4 and found["asynchronous"] == 0
    assert found["overlapped"] == found["overlapped_bytes"] == 0
    found = figures.collectives(gpu)
    assert found["count"] == found["asynchronous"] == 2 and found["bytes"] == 2 * 64
    assert found["overlapped"] == 1 and found["overlapped_bytes"] == 64


# A fusion with a piece of a collective, which a TPU's compiler divides among several, and what else it computes.
PIECE = """
%piece.{number} (g.1: f32[8,128]) -> f32[8,128] {{
  %g.1 = f32[8,128]{{1,0:T(8,128)}} parameter(0)
  {else_}
  ROOT %all-reduce.{number} = f32[8,128]{{1,0:T(8,128)}} all-reduce(%g.1), channel_id={channel}, to_apply=%add
}}
"""
OTHER = "%twice = f32[8,128]{1,0:T(8,128)} add(%g.1, %g.1)"
ENTRY = "ENTRY %main (p.0: f32[8,128]) -> f32[8,128] {\n  %p.0 = f32[8,128]{1,0:T(8,128)} parameter(0)\n"


@pytest.mark.parametrize(
    "channels, computing, overlapped", [("5655", 1, 1), ("56556", 1, 2), ("55566", 2, 1), ("5556", 3, 0), ("555", 9, 0)]
)
def test_a_collective_taken_to_pieces_is_one(channels, computing, overlapped):
    numbered = list(enumerate(channels))
    pieces = [PIECE.format(number=n, channel=c, else_=OTHER if n == computing else "") for n, c in numbered]
    calls = [f"  %f.{n} = f32[8,128]{{1,0:T(8,128)}} fusion(%p.0), kind=kLoop, calls=%piece.{n}" for n, _ in numbered]
    found = figures.collectives(hlo.parse("".join(pieces) + "\n" + ENTRY + "\n".join(calls) + "\n}\n"))
    assert found["count"] == len(set(channels)) and found["bytes"] == found["count"] * 4096
    assert found["asynchronous"] == sum(channels.count(c) > 1 for c in set(channels))
    assert found["overlapped"] == overlapped and found["overlapped_bytes"] == overlapped * 4096


# A sum that a TPU's SparseCores compute, from the update, which gives them the values, on.
CALL = """
%on_sparse_cores (g.1: f32[8,128]) -> f32[8,128] {
  %g.1 = f32[8,128]{1,0:T(8,128)} parameter(0)
  ROOT %all-reduce.1 = f32[8,128]{1,0:T(8,128)} all-reduce(%g.1), channel_id=1, to_apply=%add
}, execution_thread="sparsecore"

ENTRY %main (p.0: f32[8,128]) -> f32[8,128] {
  %p.0 = f32[8,128]{1,0:T(8,128)} parameter(0)
  %start = ((), (), (s32[1]{0:T(128)S(2)})) call-start(), async_execution_thread="sparsecore", to_apply=%on_sparse_cores
  BEFORE
  %update = ((f32[8,128]{1,0:T(8,128)}), f32[8,128]{1,0:T(8,128)}) call-update(%start, %p.0)
  AFTER
  ROOT %done = f32[8,128]{1,0:T(8,128)} call-done(%update)
}
"""


@pytest.mark.parametrize("place, overlapped", [("AFTER", 1), ("BEFORE", 0)])
def test_a_collective_of_sparse_cores_is_overlapped_from_its_update_on(place, overlapped):
    text = CALL.replace(place, "%twice = f32[8,128]{1,0:T(8,128)} fusion(%p.0), kind=kLoop, calls=%twice_of")
    found = figures.collectives(hlo.parse(text.replace("BEFORE", "").replace("AFTER", "")))
    assert found["count"] == found["asynchronous"] == 1 and found["bytes"] == 4096
    assert found["overlapped"] == overlapped and found["overlapped_bytes"] == overlapped * 4096


def test_convolutions_that_are_not_computed_well(tpu, gpu):
    found = figures.figures(gpu, "gpu")
    assert found["fallbacks"] == {"count": 1, "names": ["convolution.3"]}
    assert found["gradients_as_forward"]["count"] == 1
    assert figures.figures(tpu, "tpu")["fallbacks"]["count"] == 0


PATHS = frozenset({"layer1", "layer1/0", "layer1/0/conv1", "layer1/0/conv1/0", "layer1/0/conv1/1", "fc", "stem"})


@pytest.mark.parametrize(
    "name, expected",
    [
        ("jit(step)/jvp(layer1)/0/conv1/0/conv_general_dilated", ("layer1/0/conv1/0", "forward")),
        ("jit(step)/transpose(jvp(layer1))/0/conv1/1/mul", ("layer1/0/conv1/1", "backward")),
        ("jit(step)/transpose(jvp(layer1/0))/conv1/add", ("layer1/0/conv1", "backward")),
        ("jit(step)/jvp(layer1)/0/gt", ("layer1/0", "forward")),
        ("jit(step)/jvp(layer1)/0/conv1/2/jit(relu)/max", ("layer1/0/conv1", "forward")),
        ("jit(step)/jvp(fc)/dot_general", ("fc", "forward")),
        ("jit(step)/checkpoint/rematted_computation/stem/mul", ("stem", "backward")),
        ("jit(step)/vmap(jit(_uniform))/vmap()/xor", (layers.OTHER, "")),
        ("state.params['layer1.0.conv1.0.kernel']", ("layer1/0/conv1/0", "forward")),
        ("state.opt_state[1].trace['fc.kernel']", (layers.OTHER, "")),
        ("batch['frames']", (layers.OTHER, "")),
        ("broadcast.7", (layers.UNNAMED, "")),
        ("", (layers.UNNAMED, "")),
    ],
)
def test_places(name, expected):
    assert layers.place(name, PATHS) == expected


def test_layers_by_depth_forward_before_backward(tpu, gpu):
    modules, stages = ["fc", "layer1.0.conv1.0", "layer1.0.conv1.1", "stem"], ("stem", "layer1", "fc")
    found = layers.layers(tpu, modules, stages, 2)
    assert [(layer.name, layer.direction) for layer in found] == [
        ("layer1/0/conv1/0", "forward"),
        ("layer1/0/conv1/1", "forward"),
        (layers.UNNAMED, ""),
    ]
    conv = found[0]
    assert conv.cycles == 5000 / 2 and conv.layouts == {"DHWNC": 1} and conv.transposes == 0, "named by its convolution"
    total = figures.figures(tpu, "tpu")
    stage, *_ = layers.stages(found)
    assert (stage.name, stage.cycles, stage.layouts) == ("layer1", conv.cycles + found[1].cycles, {"DHWNC": 1})
    for name in ("cycles", "flops", "bytes"):
        assert sum(getattr(layer, name) for layer in found) * 2 == total[name]
    forward, backward, other = layers.layers(gpu, modules, stages, 1)
    assert forward.transposes == 1 and forward.layouts == {"NCDHW": 1}
    assert backward.direction == "backward" and sum(backward.layouts.values()) == 2
    assert other.name == layers.UNNAMED


def test_every_convolution_of_a_fusion_counts(tpu, monkeypatch):
    modules, stages = ["layer1.0.conv1.0"], ("layer1",)
    monkeypatch.setattr(layers, "products", lambda *place: [one for one in products(*place) for _ in range(2)])
    assert {"DHWNC": 2} in [layer.layouts for layer in layers.layers(tpu, modules, stages, 2)]
