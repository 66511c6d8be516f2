"""Several networks side by side: each member is itself, at its own size and normalisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from r23d_jax import models
from r23d_jax.errors import UserError
from r23d_jax.models.functional import Functional, weights_of
from r23d_jax.models.head import in_bins, over_space

MEMBERS = (
    {
        "arch": "r3d_18",
        "arguments": {"width": 4, "layers": [1, 1, 1, 1], "bn_epsilon": 1e-3},
        "size": 32,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    },
    {"arch": "i3d", "arguments": {"width": 4}, "size": 48, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]},
)
HEAD = {"stages": ["0.layer4", "1.Mixed_5b"], "bins": 2, "mirrored": True}


def create(**options):
    model = models.create("several", 3, rngs=nnx.Rngs(0), members=MEMBERS, **options)
    model.eval()
    return model


def test_each_member_sees_the_clip_as_it_would_alone():
    model = create()
    clip = jax.random.uniform(jax.random.key(1), (2, 8, 32, 32, 3))
    outputs = jax.jit(model.features)((clip - 0.5) / 0.5)
    for place, member in enumerate(MEMBERS):
        alone = models.create(member["arch"], 1, rngs=nnx.Rngs(0), **member["arguments"])
        own = models.flatten(alone)
        theirs = models.flatten(model)
        models.assign(alone, {name: theirs.get(f"nets.{place}.{name}", value) for name, value in own.items()})
        alone.eval()
        size = member["size"]
        seen = jax.image.resize(clip, (2, 8, size, size, 3), "linear") if size != 32 else clip
        wanted = jax.jit(alone.features)((seen - jnp.asarray(member["mean"])) / jnp.asarray(member["std"]))
        for name in alone.channels():
            np.testing.assert_allclose(outputs[f"{place}.{name}"], wanted[name], rtol=2e-4, atol=2e-4)


def test_a_head_takes_stages_of_both():
    model = create(head=HEAD)
    clip = jax.random.normal(jax.random.key(2), (2, 8, 32, 32, 3))
    features = jax.jit(model.features)(clip)
    stages = jax.jit(model._stages)
    views = [stages(view) for view in (clip, jnp.flip(clip, 3))]
    wanted = np.mean([in_bins([over_space(seen[name]) for name in HEAD["stages"]], 2) for seen in views], axis=0)
    np.testing.assert_allclose(features["pool"], wanted, rtol=1e-5, atol=1e-6)
    params, stats = weights_of(model)
    logits = jax.jit(Functional(model).eval)(params, stats, clip)
    np.testing.assert_allclose(logits, model.fc(features["pool"]), rtol=1e-5, atol=1e-6)


def test_it_is_not_offered_by_name():
    assert "several" not in models.NAMES and models.get("several").title == "Several networks"


@pytest.mark.parametrize("members", [(), MEMBERS[:1], (*MEMBERS, {"arch": "none"}), "r3d_18"])
def test_members_are_checked(members):
    with pytest.raises(UserError, match="members"):
        models.create("several", 3, rngs=nnx.Rngs(0), members=members)


def test_dropout_is_refused():
    with pytest.raises(UserError, match="dropout"):
        create(dropout=0.5)
