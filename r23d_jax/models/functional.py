"""A network as a pure function of flat dicts of arrays.

The training loop works on `{"layer1.0.conv1.0.kernel": array, ...}` under plain `jax.jit`: no step traverses Python
objects, and a checkpoint stores exactly what a step takes and returns.
"""

import jax
from flax import nnx

from r23d_jax.models.structure import dotted, flat_values

Weights = dict[str, jax.Array]


def weights_of(model: nnx.Module) -> tuple[Weights, Weights]:
    """Returns the model's `(parameters, running statistics)`, each a flat dict by dotted path."""
    return flat_values(nnx.state(model, nnx.Param)), flat_values(nnx.state(model, nnx.BatchStat))


class Functional:
    """A network without its weights.

    Args:
      model: gives the structure and attributes such as a frozen BatchNorm; its weights are not used.
    """

    def __init__(self, model: nnx.Module):
        model.train()
        self._train = self._structure(model)
        model.eval()
        self._eval = self._structure(model)

    def train(self, params: Weights, stats: Weights, video: jax.Array, key: jax.Array) -> tuple[jax.Array, Weights]:
        """Returns `(logits float32 [B, classes], new statistics)` in training mode; `key` is for dropout."""
        model = self._build(self._train, params, stats)
        logits = model(video, rngs=nnx.Rngs(dropout=key))
        return logits, flat_values(nnx.state(model, nnx.BatchStat))

    def eval(self, params: Weights, stats: Weights, video: jax.Array) -> jax.Array:
        """Returns float32 [B, classes], the logits in evaluation mode."""
        return self._build(self._eval, params, stats)(video)

    def features(self, params: Weights, stats: Weights, video: jax.Array) -> dict[str, jax.Array]:
        """Returns every stage's output by name, in evaluation mode."""
        return self._build(self._eval, params, stats).features(video)

    @staticmethod
    def _structure(model):
        graph, params, stats, rest = nnx.split(model, nnx.Param, nnx.BatchStat, ...)
        paths = [[path for path, _ in nnx.to_flat_state(state)] for state in (params, stats)]
        return graph, *paths, nnx.to_pure_dict(rest), rest

    @staticmethod
    def _build(structure, params, stats):
        graph, param_paths, stat_paths, rest_values, rest = structure
        # Created inside the trace, because NNX forbids writing to variables from outside.
        states = [
            nnx.from_flat_state([(path, kind(flat[dotted(path)])) for path in paths])
            for kind, flat, paths in ((nnx.Param, params, param_paths), (nnx.BatchStat, stats, stat_paths))
        ]
        rest = jax.tree.map(lambda x: x, rest)
        nnx.replace_by_pure_dict(rest, rest_values)
        return nnx.merge(graph, *states, rest)
