"""`python -m r23d_jax.push RUN OWNER/REPO [--which best|last] [--private] [--licence SPDX] [--out DIR]`

Publishes the weights of a run on the Hugging Face Hub: `model.safetensors`, their card as `config.json`, and a
`README.md` with the protocol, the results, the labels and the licence. Then
`r23d predict --checkpoint hf://OWNER/REPO VIDEO` works anywhere. With --out the three files are only written.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from r23d_jax.errors import Parser, run_command


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    command = Parser(prog="python -m r23d_jax.push", description=__doc__.split("\n\n")[1])
    command.add_argument("run", type=Path, metavar="RUN", help="a workdir, a checkpoint folder or a converted one")
    command.add_argument("repo", metavar="OWNER/REPO", help="the repository; made if it is not there")
    command.add_argument("--which", choices=("best", "last"), default="best", help="checkpoint of a workdir")
    command.add_argument("--private", action="store_true", help="make a new repository private")
    command.add_argument("--licence", metavar="SPDX", help="of the weights: apache-2.0, say (default: the card's)")
    command.add_argument("--revision", default="", metavar="BRANCH", help="branch to push to (default: main)")
    command.add_argument("--out", type=Path, metavar="DIR", help="write the files to a new folder, and push nothing")
    command.add_argument("--debug", action="store_true", help="show tracebacks")
    return command


def main() -> None:
    flags = parser().parse_args(sys.argv[1:])
    from r23d_jax.report import model_card  # here, so that --help does not import JAX
    from r23d_jax.weights import checkpoint, hub, repository

    address = hub.parse(f"{hub.SCHEME}{hub.check_name(flags.repo)}" + (f"@{flags.revision}" if flags.revision else ""))
    if flags.out is None:
        hub.require_token()  # before anything is read
    folder = checkpoint.find(flags.run, flags.which)
    values, card = checkpoint.load_weights(folder)
    card = repository.public(card, flags.licence)
    training = model_card.read_run(folder)
    readme = model_card.build(address.text, card, values, training)
    if training.why_none:
        print(f"note: {training.why_none}", file=sys.stderr)
    if flags.out is not None:
        repository.write(flags.out, values, card, readme)
        print(f"{flags.out}: {', '.join(sorted(path.name for path in flags.out.iterdir()))}; nothing was pushed")
        return
    with tempfile.TemporaryDirectory(prefix="r23d-push-") as temporary:
        written = repository.write(Path(temporary) / "repository", values, card, readme)
        message = f"{card.arch}, weights {card.tensors_sha256[:12]}"
        print(hub.push(written, flags.repo, private=flags.private, branch=flags.revision, message=message))
    print(f"use it: r23d predict --checkpoint {address.text} VIDEO")


if __name__ == "__main__":
    run_command(main)
