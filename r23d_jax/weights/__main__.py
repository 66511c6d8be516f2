"""Lists published weights, or fetches one and says how to use it."""

import textwrap
from typing import Any

from r23d_jax import models
from r23d_jax.errors import Parser, UserError, run_command
from r23d_jax.runtime.console import check_output, write_result
from r23d_jax.weights import download, registry
from r23d_jax.weights.family import File, Published

_HEADING = "name, network, MiB, classes, licence, scores in % under the protocol below"
_NOTE = "~: size of the network's float32 values, since none is published; an optimizer's state comes on top of it"
_WIDTH = 120


def main() -> None:
    parser = Parser(prog="python -m r23d_jax.weights", description=__doc__)
    parser.add_argument("name", nargs="?", metavar="NAME", help="fetch these weights, unless they are here already")
    parser.add_argument("--network", metavar="ARCH", help="list only weights that this network can have or start from")
    parser.add_argument("--json", metavar="FILE", help="write the list or NAME's entry there; - prints nothing else")
    parser.add_argument("--debug", action="store_true", help="show a traceback on errors")
    flags = parser.parse_args()
    if flags.name is not None and flags.network is not None:
        raise UserError("NAME and --network: give one of them")
    check_output("--json", flags.json)
    if flags.name is None:
        write_result([_entry(published) for published in _chosen(flags.network)], listing(flags.network), flags.json)
        return
    published = registry.get(flags.name)
    paths = [str(download.fetch_file(file)) for file in published.files]
    labels = registry.labels(published)
    entry = {**_entry(published), "labels": labels, "paths": paths}
    write_result(entry, _description(published, labels, paths), flags.json)


def _chosen(network: str | None) -> list[Published]:
    """Returns the publications in order of family: all, or those of a network."""
    published = list(registry.published().values())
    if network is None:
        return published
    arch = models.canonical(network)
    found = [entry for entry in published if arch in registry.networks(entry)]
    if not found:
        raise UserError(f"--network {network}: no weights of it are published; without --network all are listed")
    return found


def listing(network: str | None = None) -> list[str]:
    """Returns the lines of the list: by family, and below rows of one protocol that protocol."""
    lines, family, protocol = [_HEADING], "", []
    for entry in _chosen(network):
        if protocol and (registry.family_of(entry).name != family or _protocol(entry) != protocol):
            lines += protocol
        if registry.family_of(entry).name != family:
            family = registry.family_of(entry).name
            lines += ["", family]
        lines.append(_row(entry))
        protocol = _protocol(entry)
    return [*lines, *protocol, "", _NOTE]


def _row(entry: Published) -> str:
    size = f"{'' if registry.has_size(entry) else '~'}{registry.mebibytes(entry):.0f}"
    classes = f"{entry.classes} {'named' if entry.labels else 'unnamed'}" if entry.classes else "no head"
    scores = " / ".join(f"{score['value']:g}" for score in entry.scores) or "-"
    licence = entry.licence or "not stated"
    return f" {entry.name:44} {entry.arch:18} {size:>4} {classes:12} {licence:18} {scores}"


def _protocol(entry: Published) -> list[str]:
    """Returns lines that say what the scores of a row are, in their order."""
    metrics: dict[str, list[str]] = {}
    for score in entry.scores:
        metrics.setdefault(score["protocol"], []).append(score["metric"])
    texts = [f"{' / '.join(names)}: {protocol}" for protocol, names in metrics.items()]
    indent = {"initial_indent": " " * 5, "subsequent_indent": " " * 7}
    return [line for text in texts for line in textwrap.wrap(text, _WIDTH, **indent)]


def _entry(published: Published) -> dict[str, Any]:
    """Returns a publication for JSON."""
    entry = {**vars(published), "family": registry.family_of(published).name}
    entry |= {"preprocessing": published.preprocessing.to_dict(), "files": [vars(file) for file in published.files]}
    entry |= {"mebibytes": round(registry.mebibytes(published), 3), "size_is_published": registry.has_size(published)}
    if isinstance(published.labels, File):
        entry["labels"] = published.labels.name
    return entry


def _description(published: Published, labels: tuple[str, ...], paths: list[str]) -> list[str]:
    """Returns what to know of weights that are here, and how to use them."""
    names = f", {labels[0]!r} to {labels[-1]!r}" if labels else ", their names are not known"
    fields = {key: value for key, value in vars(published.preprocessing).items() if value is not None}
    use = f"predict --checkpoint {published.name} VIDEO"
    if not published.classes:
        use = f"train --config CONFIG --config.arch={published.arch} --config.init_from={published.name} --workdir DIR"
    return [
        f"{published.name}: {published.arch}, {published.pretrained}",
        *(f"file: {path}" for path in paths),
        f"preprocessing: {', '.join(f'{key}={value}' for key, value in fields.items())}",
        f"classes: {published.classes}{names}" if published.classes else "classes: no classifier",
        f"licence: {published.licence or 'not stated by its publisher'}",
        *(f"{score['metric']} {score['value']:g}: {score['protocol']}" for score in published.scores),
        f"use: r23d {use}",
    ]


if __name__ == "__main__":
    run_command(main)
