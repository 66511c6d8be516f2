"""The table of policies, the contexts that override it, and the compiler options."""

import dataclasses
import logging

import jax
import pytest

from r23d_jax.models.ops import formulations, hardware
from r23d_jax.models.ops.hardware import Hardware, Policy


@pytest.mark.parametrize(
    "where, choice",
    [
        (Hardware("cpu"), formulations.fast_on_cpu),
        (Hardware("tpu"), formulations.always_native),
        (Hardware("gpu", (12, 0)), formulations.fast_on_gpu),
        (Hardware("gpu", (9, 0)), formulations.fast_on_gpu),
        (Hardware("gpu", (8, 9)), formulations.fast_on_gpu),
        (Hardware("gpu", (7, 5)), formulations.fast_on_gpu),
        (Hardware("gpu", (6, 0)), formulations.fast_on_gpu),
        (Hardware("cuda"), formulations.always_native),
        (Hardware("rocm"), formulations.always_native),
        (Hardware("another"), formulations.always_native),
    ],
)
def test_the_table(where, choice):
    assert hardware.policy_of(where).choice is choice


@pytest.mark.parametrize(
    "capability, dtypes, multiples",
    [
        ((10, 0), {"float32", "bfloat16", "float16"}, {"float32": 4, "bfloat16": 8, "float16": 8}),
        ((9, 0), {"float32", "bfloat16", "float16"}, {"float32": 4, "bfloat16": 8, "float16": 8}),
        ((8, 0), {"bfloat16", "float16"}, {"float32": 1, "bfloat16": 8, "float16": 8}),
        ((7, 5), {"float16"}, {"float32": 1, "bfloat16": 1, "float16": 8}),
        ((6, 1), set(), {"float32": 1, "bfloat16": 1, "float16": 1}),
        (None, set(), {"float32": 1, "bfloat16": 1, "float16": 1}),
    ],
)
def test_gpus_get_channels_last_and_padded_channels_where_cudnn_wants_them(capability, dtypes, multiples):
    with hardware.trace_for(Hardware("gpu", capability)):
        for dtype, multiple in multiples.items():
            options = hardware.compiler_options(dtype)
            assert options == ({"xla_gpu_force_conv_nhwc": True} if dtype in dtypes else {})
            assert hardware.policy().padded(1, dtype) == multiple


def test_a_kernels_gradient_that_xla_takes_for_a_forward_convolution_is_written_another_way():
    def chosen(frames, kernel, strides=(1, 1, 1)):
        padding = ((kernel[0] // 2,) * 2, (1, 1), (1, 1))
        return formulations.fast_on_gpu((2, frames, 7, 7, 8), (*kernel, 8, 8), strides, padding)

    assert chosen(2, (3, 3, 3)) is chosen(3, (3, 1, 1)) is formulations.stacked_inputs
    assert chosen(1, (1, 3, 3)) is chosen(1, (3, 3, 3)) is formulations.shifted  # the other frames of the kernel meet 0
    assert chosen(4, (3, 3, 3)) is chosen(2, (1, 3, 3)) is chosen(4, (3, 3, 3), (2, 2, 2)) is formulations.native


def test_a_row_is_for_its_capability_and_newer_ones(monkeypatch):
    new, old, any_ = (Policy(multiples={"bfloat16": size}) for size in (8, 4, 2))
    monkeypatch.setattr(hardware, "_TABLE", (("gpu", (9, 0), new), ("gpu", (8, 0), old), ("gpu", None, any_)))
    expected = {(12, 0): new, (9, 0): new, (8, 9): old, (8, 0): old, (7, 5): any_, None: any_}
    assert all(hardware.policy_of(Hardware("cuda", capability)) is row for capability, row in expected.items())
    assert hardware.policy_of(Hardware("tpu")) == Policy()


def test_names_of_platforms():
    assert Hardware("cuda") == Hardware("rocm") == Hardware("gpu")
    assert hardware.here().platform == jax.default_backend()
    assert hardware.here().kind == jax.local_devices()[0].device_kind


def test_options_of_a_tpu_of_known_kind():
    limit, pieces = "xla_tpu_scoped_vmem_limit_kib", "xla_tpu_enable_async_collective_fusion_fuse_all_reduce"
    cores, combined = (
        "xla_tpu_enable_sparse_core_collective_offload_all_reduce",
        "xla_jf_crs_combiner_threshold_in_bytes",
    )
    memory = "xla_tpu_scheduler_percent_shared_memory_limit"
    expected = {
        "TPU v4": set(),
        "TPU v5 lite": {limit, combined, pieces, memory},  # the compiler refuses the pieces for all others
        "TPU v5": set(),
        "TPU v6 lite": {limit, combined, cores},
        "TPU7x": {combined, cores},
    }
    rest = hardware.policy_of(Hardware("tpu"))
    for kind, names in expected.items():
        policy = hardware.policy_of(Hardware("tpu", kind=kind))
        assert {limit, combined, pieces, memory, cores} & set(policy.options) == names
        assert int(policy.options.get(limit, 2**16)) == 2**16 and dataclasses.replace(policy, options={}) == rest


def test_contexts_nest_and_end():
    before = hardware.policy()
    other = dataclasses.replace(before, choice=formulations.always_native)
    with hardware.use(other):
        with hardware.trace_for("cpu"):
            assert hardware.policy() is hardware.policy_of(Hardware("cpu"))
        assert hardware.policy() is other
    with pytest.raises(ZeroDivisionError), hardware.trace_for(Hardware("gpu", (9, 0))):
        1 / 0  # noqa: B018
    assert hardware.policy() is before


def test_on_a_tpu_gradients_are_summed_in_float32():
    assert hardware.policy_of(Hardware("tpu")).unrounded_gradients
    assert not any(hardware.policy_of(Hardware(name)).unrounded_gradients for name in ("cpu", "gpu"))


def test_padded_channels():
    policy = Policy(multiples={"bfloat16": 8})
    assert [policy.padded(channels, "bfloat16") for channels in (45, 48, 921)] == [48, 48, 928]
    assert policy.padded(45, "float32") == 45


def test_padded_channels_are_never_as_many_as_those_of_a_pair():
    policy = Policy(multiples={"bfloat16": 8}, lanes=128)
    assert [policy.padded(channels, "bfloat16") for channels in (3, 4, 5, 45)] == [3, 4, 8, 48]
    assert [policy.pairs(channels) for channels in (45, 64, 65)] == [True, True, False]
    assert not Policy().pairs(1)


@pytest.mark.parametrize("where", [Hardware(*row[:2]) for row in hardware._TABLE], ids=str)
def test_this_jaxlib_accepts_every_option_of_the_table(where):
    with hardware.trace_for(where):
        options = hardware.compiler_options()
        assert options == dict(hardware.policy().options)
    here = {name: value for name, value in options.items() if where.platform != "tpu"}
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        compiled = jax.jit(lambda x: x * 2).lower(1.0).compile(compiler_options=here)
    assert float(compiled(3.0)) == 6.0


def test_compiler_options_leave_the_users_choice_alone(monkeypatch):
    with hardware.trace_for("cpu"):
        (option,) = hardware.compiler_options()
        monkeypatch.setenv("XLA_FLAGS", f"--{option}=LIBRARY_FUSION_TYPE_DOT")
        assert hardware.compiler_options() == {}


@pytest.mark.parametrize("options", [{"xla_cpu_no_such_option": "1"}, {"xla_gpu_force_conv_nhwc": "neither"}])
def test_an_option_this_jaxlib_does_not_know_is_logged_and_never_passed(caplog, options):
    with caplog.at_level(logging.INFO, logger="r23d_jax.models.ops.hardware"), hardware.use(Policy(options=options)):
        assert hardware.compiler_options() == {}
    assert next(iter(options)) in caplog.text
