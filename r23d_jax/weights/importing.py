"""Converts published weights to our tensors and their card."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from r23d_jax import models
from r23d_jax.errors import UserError
from r23d_jax.models.registry import Architecture, Shapes
from r23d_jax.transforms.spec import describe
from r23d_jax.weights import adapt, architecture, download, families, presets, readers, registry, sources
from r23d_jax.weights.card import Card
from r23d_jax.weights.families.datasets import kinetics400
from r23d_jax.weights.family import Family, Published
from r23d_jax.weights.mapping import Table

_COUNTER = ".num_batches_tracked"


@dataclasses.dataclass
class Imported:
    """Converted weights.

    Attributes:
      values: path -> float32 array, as from `structure.flatten`.
      card: complete except for `tensors_sha256`.
      notes: what was done and assumed, a line each.
      assumed: those that the file itself does not say.
    """

    values: dict[str, np.ndarray]
    card: Card
    notes: list[str]
    assumed: list[str]


def read_labels(path: str | Path) -> tuple[str, ...]:
    """Reads class names, one per line in the order of the logits; leading numbers (`1 ApplyEyeMakeup`) are dropped.

    Raises:
      UserError: the file is unreadable or empty, or has a name twice.
    """
    try:
        lines = [line.strip() for line in Path(path).read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--labels {path}: not a readable text file ({error})") from None
    lines = [line for line in lines if line]
    numbered = [re.fullmatch(r"(\d+)[\s,:]+(.+)", line) for line in lines]
    if lines and all(numbered):
        first = int(numbered[0][1])
        if first in (0, 1) and [int(m[1]) for m in numbered] == list(range(first, first + len(lines))):
            lines = [m[2] for m in numbered]
    if not lines:
        raise UserError(f"--labels {path}: no names in it")
    twice = sorted({line for line in lines if lines.count(line) > 1})
    if twice:
        raise UserError(f"--labels {path}: more than once in it: {adapt.listed(twice)}")
    return tuple(lines)


def convert(
    source: str | Path | sources.Located,
    arch: str | None = None,
    labels: Sequence[str] | None = None,
    in_channels: int | None = None,
    key: str | None = None,
    preset: presets.Preset | None = None,
) -> Imported:
    """Reads published weights of any family.

    Args:
      source: a file, a TensorFlow prefix or folder, a published name or an address; see `sources.locate`.
      arch: name of the network, by default recognised. Another network than the source's means a transplant (3D
        kernels summed over time); for a 2D network it is the target of inflation.
      labels: class names in the order of the logits.
      in_channels: number of input channels if not the source's 3; the first kernel is averaged over them.
      key: which state dict of a PyTorch file that holds several, `model_ema` say.
      preset: preprocessing and labels of a file that does not say them.

    Raises:
      UserError: tensors do not fit; the message lists them.
    """
    located = sources.locate(source)
    published, source = located.published, located.name
    read = readers.read_tensors(located.path, key)
    if key is not None and read.format != "torch":
        raise UserError(f"{source}: no PyTorch file, so it has no several state dicts: leave out --key {key}")
    origin = str(source)
    family, table = families.recognise(read.tensors, origin)
    ours, unused, errors = table.convert(read.tensors)
    shapes = {name: value.shape for name, value in ours.items()}
    if published is not None and family.image:
        arch = arch or published.arch
    theirs, arch = _networks(family, shapes, arch, origin, errors)
    if published is not None and theirs not in (None, models.canonical(published.arch)):
        raise UserError(f"{origin}: {read.path} holds {theirs}, not {published.arch}: remove it, or fetch it again")
    published = published or _identify(read, family)

    report = adapt.Report(unused=unused)
    try:
        arguments = architecture.options(arch, shapes)
    except UserError as error:
        raise UserError(f"{origin}: {'; '.join([str(error), *errors])}") from None
    if not arguments["num_classes"]:
        arguments["num_classes"] = len(labels) if labels else 400
    if in_channels:
        arguments["in_channels"] = in_channels
    target = models.flatten(architecture.abstract(arch, arguments))
    values, wrong = adapt.fit(
        ours,
        target,
        first_kernel=models.get(arch).first_kernel,
        image=family.image,
        transplant=theirs is not None and theirs != models.canonical(arch),
        fresh=_may_lack(family, ours),
        implied=family.implied,
        report=report,
    )
    what = (
        f"these are weights of {theirs}, not of {arch} (set arch to {theirs})"
        if theirs not in (None, models.canonical(arch))
        else f"not whole weights of {arch}"
    )
    adapt.raise_all(origin, what, errors + wrong)
    values.update(_fresh(report.fresh, target))

    notes = [f"{read.file}: {family.name} weights of {theirs or 'a 2D network'}, as {arch}", *report.lines()]
    if read.stripped:
        notes.append(f"taken off the names: {', '.join(read.stripped)}")
    if read.left_out:
        notes.append(f"beside the tensors, not looked at: {adapt.listed(read.left_out)}")
    if labels is None and preset is not None and preset.labels and len(preset.labels()) == arguments["num_classes"]:
        labels = preset.labels()
    named, assumed = located.published is not None, []
    card = _card(read, family, published, theirs, arch, arguments, labels, report, assumed, preset, named)
    extra = {}
    if read.format in ("torch", "safetensors") and not family.image:  # 2D networks are not exported
        extra["num_batches_tracked"] = _counters(read.tensors, table)
    if report.widened:
        extra["dtypes"] = {name: ours[name].dtype.name for name in report.widened}
    return Imported(values, dataclasses.replace(card, extra=extra), [*notes, *assumed], assumed)


def _networks(
    family: Family, shapes: Shapes, arch: str | None, origin: str, errors: Sequence[str]
) -> tuple[str | None, str]:
    """Returns the networks of the source (None if 2D) and of the result."""
    named = None if arch is None else models.get(arch)
    if family.image:
        if named is None and len(family.archs) > 1:
            fitting = [name for name in family.archs if _has_blocks(models.get(name), shapes)]
            raise UserError(f"{origin}: a 2D network: say with --arch what to inflate it to: {', '.join(fitting)}")
        chosen = arch or family.archs[0]
        if models.canonical(chosen) not in family.archs:
            raise UserError(f"{origin}: {family.name} weights cannot become {chosen}, only {', '.join(family.archs)}")
        return None, chosen
    try:
        if named is not None and _is_named_network(named, shapes, family):
            return named.name, arch
        theirs = architecture.recognise(shapes, family.archs, origin)
    except UserError as error:
        raise UserError("; ".join([str(error) if origin in str(error) else f"{origin}: {error}", *errors])) from None
    if named is not None and not _has_blocks(named, shapes):
        raise UserError(f"{origin}: these are weights of {theirs}, which cannot become {arch}: set arch to {theirs}")
    return theirs, arch or theirs


def _is_named_network(named: Architecture, shapes: Shapes, family: Family) -> bool:
    """Returns whether the weights are of the named network, in its published size or in one that nobody published."""
    if named.fits(shapes, any_size=False):
        return True
    others = any(models.get(name).fits(shapes, any_size=False) for name in family.archs)
    return named.fits(shapes, any_size=True) and not others


def _has_blocks(target: Architecture, shapes: Shapes) -> bool:
    """Returns whether a network has these blocks, of any width and kind, so that tensors can be fitted to it.

    Never true for R2D, whose first kernel covers the whole clip.
    """
    size = target.size(shapes) if target.first_kernel in shapes else None
    return size is not None and size.keys() <= {"width"}


def _identify(read: readers.TensorFile, family: Family) -> Published | None:
    """Returns the publication that a file belongs to, by its hash."""
    blob = ""
    if any(file.git_blob for published in family.published for file in published.files):
        blob = download.git_blob_sha1((read.path if read.path.is_dir() else read.path.parent) / read.file)
    return registry.identify(read.sha256, blob)


def _may_lack(family: Family, ours: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Returns the endings of paths that a file may lack; of a classifier it has all or nothing."""
    headless = not any(path.startswith("fc.") for path in ours)
    return tuple(ending for ending in family.fresh if headless or not ending.startswith("fc."))


def _fresh(paths: Sequence[str], target: Mapping[str, object]) -> dict[str, np.ndarray]:
    """Returns fresh initial values."""
    values = {}
    if any(path.startswith("fc.") for path in paths):
        from flax import nnx

        from r23d_jax.models.layers import Linear

        head = Linear(*target["fc.kernel"].shape, rngs=nnx.Rngs(0))
        values = {"fc.kernel": np.asarray(head.kernel[...]), "fc.bias": np.asarray(head.bias[...])}
    for path in paths:
        if path not in values:
            values[path] = (np.ones if path.endswith(".var") else np.zeros)(target[path].shape, np.float32)
    return values


def _counters(tensors: Mapping[str, np.ndarray], table: Table) -> dict[str, int]:
    """Returns BatchNorm's update counters of PyTorch by our layer, for export."""
    counters = {}
    for name, value in tensors.items():
        mean = name.removesuffix(_COUNTER) + ".running_mean"
        if name.endswith(_COUNTER) and table.why_unused(mean) is None:
            path, _ = table.to_ours(mean)
            if np.size(value) != 1 or value.dtype.kind not in "iu":
                found = f"{value.dtype.name} {list(value.shape)}"
                raise UserError(f"{name} is {found}, but a count of updates is one whole number")
            counters[path.removesuffix(".mean")] = int(np.reshape(value, ()))
    return counters


def _card(
    read: readers.TensorFile,
    family: Family,
    published: Published | None,
    theirs: str | None,
    arch: str,
    arguments: Mapping[str, object],
    labels: Sequence[str] | None,
    report: adapt.Report,
    notes: list[str],
    preset: presets.Preset | None,
    named: bool,
) -> Card:
    canonical, classes = models.canonical(arch), arguments["num_classes"]
    unchanged = theirs == canonical and not report.channels and "fc.kernel" not in report.fresh
    channels, frames = arguments["in_channels"], arguments.get("frames")
    if preset is not None:
        preprocessing = preset.apply(family.preprocessing(theirs or canonical, channels, frames))
        notes.append(f"preprocessing by --preprocessing {preset.name}")
    elif published is not None and not report.channels:
        preprocessing = published.preprocessing
    else:
        preprocessing = family.preprocessing(theirs or canonical, channels, frames)
        notes.append(
            f"the file does not say its preprocessing: taken to be {describe(preprocessing)}; `convert "
            "--preprocessing` says otherwise"
        )
    model = {
        "num_classes": classes,
        "frames": frames or preprocessing.frames or 64,
        "in_channels": channels,
        "dropout": 0.0,
        **{key: arguments[key] for key in models.get(arch).options if key in arguments},
    }
    card = Card(
        arch=arch,
        model=model,
        labels=_labels(labels, classes, family, published, named, report, notes),
        preprocessing=preprocessing,
        bn_epsilon=models.get(theirs or canonical).epsilon if family.epsilon is None else family.epsilon,
        init=_init(read, family, published, theirs, canonical, report),
        source={
            "file": read.file,
            "sha256": read.sha256,
            "family": family.name,
            "arch": theirs or "2D",
            "published": published.name if published else "",
            **({"classifier": "none"} if "fc.kernel" in report.fresh else {}),
        },
        licence=published.licence if published else family.licence,
        published=published.scores if published and unchanged and preset is None else (),
    )
    if preset is not None:
        try:
            Card.from_dict(card.to_dict())
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(f"--preprocessing {preset.name}: {error} for {arch} of {channels} channels") from None
    return card


def _labels(
    labels: Sequence[str] | None,
    classes: int,
    family: Family,
    published: Published | None,
    named: bool,
    report: adapt.Report,
    notes: list[str],
) -> tuple[str, ...]:
    if labels is not None:
        if len(labels) != classes:
            raise UserError(f"--labels: {len(labels)} names for {classes} classes")
        return tuple(labels)
    if "fc.kernel" in report.fresh:
        return ()
    if published is not None:
        try:
            return registry.labels(published)
        except UserError as error:
            if named:
                raise
            notes.append(f"without the names of its {classes} classes ({error}); `convert --labels` gives them")
            return ()
    if classes == 400 and family.kinetics:
        notes.append(
            "400 classes: taken to be Kinetics-400's in their published order; `convert --labels` says otherwise"
        )
        return kinetics400()
    notes.append(f"the names of its {classes} classes are not known: give them with `convert --labels`")
    return ()


def _init(
    read: readers.TensorFile,
    family: Family,
    published: Published | None,
    theirs: str | None,
    arch: str,
    report: adapt.Report,
) -> str:
    trained = f", {published.pretrained}" if published else ""
    origin = f"{family.name} weights {read.file}{trained}"
    if theirs is None:
        said = f"2D {origin}, inflated to {arch}: {len(report.inflated)} kernels repeated over time"
    elif theirs != arch:
        said = f"transplant of {theirs} into {arch}: {len(report.summed)} kernels summed over time; {origin}"
    else:
        said = origin
    if report.channels:
        said += "; first kernel averaged over its input channels"
    if report.fresh:
        said += f"; initialised anew: {adapt.listed(report.fresh, 2)}"
    return said
