"""Tables that map names and layouts of tensors between projects, in both directions.

A family of published weights has a table of `Rule`s. A rule gives a layer's name in the source and its path here
(`comp_{i}_conv_{c}` and `layer1.{i}.conv{c}.0`, where a placeholder matches one number or word) and its kind. The kind
and the family's `Scheme` determine names and axes of its tensors. A name that no or several rules match is an error.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence

import numpy as np

# Our layouts: convolutions [T, H, W, in, out], linear [in, out].
_OIDHW_TO_DHWIO = (2, 3, 4, 1, 0)
_DHWIO_TO_OIDHW = (4, 3, 0, 1, 2)
# A 2D convolution becomes a 3D one with one frame.
_OIHW_TO_HWIO = (2, 3, 1, 0)


@dataclasses.dataclass(frozen=True)
class Rule:
    """One layer: its name in the source, its path here, and its kind.

    Kinds: "conv" and "conv2d" (no bias), "bn", "linear" (a matrix), "pointwise" (a linear layer that the
    source stores as a 1x1x1 convolution) and "pointwise2d".
    """

    source: str
    ours: str
    kind: str


@dataclasses.dataclass(frozen=True)
class Scheme:
    """Names and layouts of a layer's tensors in a framework.

    Attributes:
      conv, norm, linear: our leaf -> the framework's suffix to the layer's name.
      out_first: whether kernels are [out, in, ...], as in PyTorch and Caffe2.
    """

    conv: Mapping[str, str]
    norm: Mapping[str, str]
    linear: Mapping[str, str]
    out_first: bool

    def leaves(self, kind: str) -> Mapping[str, str]:
        if kind == "bn":
            return self.norm
        return self.conv if kind in ("conv", "conv2d") else self.linear


TORCH = Scheme(
    conv={"kernel": ".weight"},
    norm={"scale": ".weight", "bias": ".bias", "mean": ".running_mean", "var": ".running_var"},
    linear={"kernel": ".weight", "bias": ".bias"},
    out_first=True,
)
COUNTERS = {r".*\.num_batches_tracked": "BatchNorm counters"}  # of TORCH, for `unused`
CAFFE2 = Scheme(
    conv={"kernel": "_w"},
    norm={"scale": "_s", "bias": "_b", "mean": "_rm", "var": "_riv"},  # _riv holds the variance itself
    linear={"kernel": "_w", "bias": "_b"},
    out_first=True,
)
SONNET = Scheme(
    conv={"kernel": "/conv_3d/w"},
    norm={
        "bias": "/batch_norm/beta",
        "mean": "/batch_norm/moving_mean",
        "var": "/batch_norm/moving_variance",
    },
    linear={"kernel": "/conv_3d/w", "bias": "/conv_3d/b"},
    out_first=False,
)
SLIM = Scheme(
    conv={"kernel": "/weights"},
    norm={"bias": "/BatchNorm/beta", "mean": "/BatchNorm/moving_mean", "var": "/BatchNorm/moving_variance"},
    linear={"kernel": "/weights", "bias": "/biases"},
    out_first=False,
)


class Table:
    """A family's rules, usable in both directions."""

    def __init__(self, modules: Sequence[Rule], scheme: Scheme, unused: Mapping[str, str] | None = None):
        """
        Args:
          modules: the rules.
          scheme: names and layouts of the framework.
          unused: regular expressions of whole names that are ignored on purpose -> the reason.
        """
        self.scheme = scheme
        self._rules = []
        for module in modules:
            for leaf, suffix in scheme.leaves(module.kind).items():
                theirs, ours = module.source + suffix, f"{module.ours}.{leaf}"
                self._rules.append((_pattern(theirs), _pattern(ours), theirs, ours, module.kind))
        self._unused = [(re.compile(expression), why) for expression, why in (unused or {}).items()]

    def why_unused(self, name: str) -> str | None:
        """Returns why a tensor of the source is ignored on purpose, or None if it is not."""
        return next((why for pattern, why in self._unused if pattern.fullmatch(name)), None)

    def to_ours(self, name: str) -> tuple[str, str]:
        """Returns `(our path, kind)` of a tensor of the source.

        Raises:
          KeyError: no or several rules match; with the reason.
        """
        found = {
            (_fill(ours, match), kind) for theirs, _, _, ours, kind in self._rules if (match := theirs.fullmatch(name))
        }
        return _only(name, found)

    def to_source(self, path: str) -> tuple[str, str]:
        """Returns `(name in the source, kind)` of one of our paths."""
        found = {
            (_fill(source, match), kind) for _, ours, source, _, kind in self._rules if (match := ours.fullmatch(path))
        }
        return _only(path, found)

    def convert(
        self, tensors: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, np.ndarray], dict[str, list[str]], list[str]]:
        """Converts the source's tensors to our paths and layouts, as views if possible.

        Returns:
          Tensors by path; names that are ignored on purpose, by reason; and a line for every error.
        """
        ours, unused, errors = {}, {}, []
        origin: dict[str, str] = {}
        for name, value in tensors.items():
            if (why := self.why_unused(name)) is not None:
                unused.setdefault(why, []).append(name)
                continue
            try:
                path, kind = self.to_ours(name)
                if path in ours:
                    raise KeyError(f"{name} and {origin[path]} are both {path}")
                ours[path], origin[path] = _to_our_layout(name, value, kind, path, self.scheme), name
            except KeyError as error:
                errors.append(error.args[0])
        return ours, unused, errors

    def export(self, ours: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[str]]:
        """Converts our tensors to the source's names and layouts; also returns a line for every error."""
        theirs, errors = {}, []
        for path, value in ours.items():
            try:
                name, kind = self.to_source(path)
                if name in theirs:
                    raise KeyError(f"{path} would be a second {name}")
                theirs[name] = _to_their_layout(value, kind, path, self.scheme)
            except KeyError as error:
                errors.append(error.args[0])
        return theirs, errors


def _pattern(template: str) -> re.Pattern:
    parts = re.split(r"\{(\w+)(?::([^}]*))?\}", template)
    expression = ""
    for index in range(0, len(parts), 3):
        expression += re.escape(parts[index])
        if index + 1 < len(parts):
            expression += f"(?P<{parts[index + 1]}>{parts[index + 2] or r'[0-9]+'})"
    return re.compile(expression)


def _fill(template: str, match: re.Match) -> str:
    return re.sub(r"\{(\w+)(?::[^}]*)?\}", lambda hole: match[hole[1]], template)


def _only(name: str, found: set[tuple[str, str]]) -> tuple[str, str]:
    if not found:
        raise KeyError(f"{name}: not a tensor of this family")
    if len(found) > 1:
        raise KeyError(f"{name}: ambiguous, could be {' or '.join(sorted(path for path, _ in found))}")
    return found.pop()


def _to_our_layout(name: str, value: np.ndarray, kind: str, path: str, scheme: Scheme) -> np.ndarray:
    if not path.endswith(".kernel"):
        vector = value.reshape(-1) if value.ndim != 1 and value.size == max(value.shape, default=0) else value
        return _ranked(name, vector, 1)
    if kind == "linear":
        return _ranked(name, value, 2).T if scheme.out_first else _ranked(name, value, 2)
    if kind in ("pointwise", "pointwise2d"):
        flat = _ranked(name, value, 5 if kind == "pointwise" else 4)
        window = flat.shape[2:] if scheme.out_first else flat.shape[:-2]
        if any(side != 1 for side in window):
            raise KeyError(f"{name}: a 1x1 kernel was expected, not one of {list(window)}")
        return flat.reshape(flat.shape[:2]).T if scheme.out_first else flat.reshape(flat.shape[-2:])
    if kind == "conv2d":
        flat = _ranked(name, value, 4)
        return (flat.transpose(_OIHW_TO_HWIO) if scheme.out_first else flat)[None]
    return _ranked(name, value, 5).transpose(_OIDHW_TO_DHWIO) if scheme.out_first else _ranked(name, value, 5)


def _to_their_layout(value: np.ndarray, kind: str, path: str, scheme: Scheme) -> np.ndarray:
    if not path.endswith(".kernel"):
        return value
    if kind == "linear":
        return value.T if scheme.out_first else value
    if kind in ("pointwise", "pointwise2d"):
        ones = (1,) * (3 if kind == "pointwise" else 2)
        return value.T.reshape(value.T.shape + ones) if scheme.out_first else value.reshape(ones + value.shape)
    if kind == "conv2d":
        if value.shape[0] != 1:
            raise KeyError(f"{path}: a kernel over {value.shape[0]} frames has no place in a 2D network")
        return value[0].transpose(3, 2, 0, 1) if scheme.out_first else value[0]
    return value.transpose(_DHWIO_TO_OIDHW) if scheme.out_first else value


def _ranked(name: str, value: np.ndarray, rank: int) -> np.ndarray:
    if value.ndim != rank:
        raise KeyError(f"{name}: shape {list(value.shape)}, but {rank} axes were expected")
    return value
