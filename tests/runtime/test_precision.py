"""Which dtype is refused or advised against on which hardware."""

import types

import jax
import pytest

from r23d_jax.errors import UserError
from r23d_jax.inference import classifier
from r23d_jax.runtime import precision

P100, V100, T4, A100, B200 = (("gpu", capability) for capability in ("6.0", "7.0", "7.5", "8.0", "10.0"))
CPU, TPU, MI250 = ("cpu", ""), ("tpu", ""), ("gpu", "gfx90a")


@pytest.mark.parametrize(
    "hardware, set_",
    [(CPU, "float32"), (TPU, "bfloat16"), (A100, "bfloat16"), (("gpu", "8.9"), "bfloat16"), (B200, "bfloat16")],
)
def test_float16_is_refused_where_another_is_better(hardware, set_):
    with pytest.raises(UserError, match=f"^dtype=float16: [^\n]*: set dtype={set_}$"):
        precision.check("float16", *hardware)


@pytest.mark.parametrize("hardware", [P100, V100, T4, MI250])
def test_float16_is_taken_on_gpus_before_ampere(hardware):
    precision.check("float16", *hardware)
    assert precision.advice("float16", *hardware) is None


@pytest.mark.parametrize("hardware", [CPU, TPU, P100, V100, T4, A100, B200, MI250])
def test_the_others_are_never_refused(hardware):
    for dtype in ("float32", "bfloat16"):
        precision.check(dtype, *hardware)
    assert precision.advice("float32", *hardware) is None


def test_bfloat16_before_ampere_is_advised_against():
    for hardware in (CPU, TPU, A100, B200, MI250):
        assert precision.advice("bfloat16", *hardware) is None
    for hardware in (V100, T4):
        said = precision.advice("bfloat16", *hardware)
        assert "in float32" in said and hardware[1] in said and said.endswith("dtype=float16 uses its tensor cores")
    said = precision.advice("bfloat16", *P100)
    assert "dtype=float16 halves memory" in said and "no tensor cores" in said


def test_the_hardware_is_that_of_jax(monkeypatch):
    assert precision.hardware() == CPU
    monkeypatch.setattr(jax, "devices", lambda: [types.SimpleNamespace(platform="gpu", compute_capability="7.5")])
    assert precision.hardware() == T4


def test_inference_refuses_it_before_it_reads_anything():
    with pytest.raises(UserError, match="set dtype=float32"):
        classifier.load("nowhere", dtype="float16")
