"""A network as a pure function of flat dicts of arrays.

The hot loop works on `{"layer1.0.conv1.0.kernel": array, ...}` under plain `jax.jit`: nothing walks Python
objects in a step, and what is in a checkpoint is exactly what the step takes and returns.
"""

import jax
from flax import nnx

Weights = dict[str, jax.Array]


def weights_of(model: nnx.Module) -> tuple[Weights, Weights]:
    """The model's `(parameters, running statistics)`, each a flat dict by dotted path."""
    return _flat(nnx.state(model, nnx.Param)), _flat(nnx.state(model, nnx.BatchStat))


class Functional:
    """The network with its weights taken out.

    Args:
      model: its structure and its training-mode attributes (a frozen BatchNorm, say) are kept; its
        weights are not.
    """

    def __init__(self, model: nnx.Module):
        model.train()
        self._train = self._structure(model)
        model.eval()
        self._eval = self._structure(model)

    def train(self, params: Weights, stats: Weights, video: jax.Array, key: jax.Array) -> tuple[jax.Array, Weights]:
        """Training mode: `(logits float32 [B, classes], new statistics)`; `key` draws the dropout."""
        model = self._build(self._train, params, stats)
        logits = model(video, rngs=nnx.Rngs(dropout=key))
        return logits, _flat(nnx.state(model, nnx.BatchStat))

    def eval(self, params: Weights, stats: Weights, video: jax.Array) -> jax.Array:
        """Evaluation mode: logits, float32 [B, classes]."""
        return self._build(self._eval, params, stats)(video)

    def features(self, params: Weights, stats: Weights, video: jax.Array) -> dict[str, jax.Array]:
        """Evaluation mode: every stage's output, by name."""
        return self._build(self._eval, params, stats).features(video)

    @staticmethod
    def _structure(model):
        graph, params, stats, rest = nnx.split(model, nnx.Param, nnx.BatchStat, ...)
        paths = [[path for path, _ in nnx.to_flat_state(state)] for state in (params, stats)]
        return graph, *paths, nnx.to_pure_dict(rest), rest

    @staticmethod
    def _build(structure, params, stats):
        graph, param_paths, stat_paths, rest_values, rest = structure
        # Variables are made anew inside the trace that uses them: NNX forbids writing to older ones.
        states = [
            nnx.from_flat_state([(path, kind(flat[_name(path)])) for path in paths])
            for kind, flat, paths in ((nnx.Param, params, param_paths), (nnx.BatchStat, stats, stat_paths))
        ]
        rest = jax.tree.map(lambda x: x, rest)
        nnx.replace_by_pure_dict(rest, rest_values)
        return nnx.merge(graph, *states, rest)


def _flat(state: nnx.State) -> Weights:
    return {_name(path): variable.get_value() for path, variable in nnx.to_flat_state(state)}


def _name(path: tuple) -> str:
    return ".".join(map(str, path))
