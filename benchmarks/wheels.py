"""Downloads what `benchmarks/gpu.py` needs in an environment that has JAX and PyTorch, and cannot download.

    python3 -m pip list > have.txt                              # there
    python benchmarks/wheels.py --have have.txt --out DIR       # here; then carry DIR, and follow the line it prints

Takes what r23d_jax needs to train and the list does not name, and what that needs in turn; needs of what the list names
are taken to be there. Wheels only, for Linux on x86-64. Without `--have` it asks for what is missing here.
"""

import argparse
import email
import importlib.metadata
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from r23d_jax.errors import Parser, UserError, run_command  # noqa: E402
from r23d_jax.runtime.console import positive  # noqa: E402

# What neither training nor benchmarks/gpu.py imports.
UNUSED = ("av", "markupsafe", "matplotlib", "pillow", "safetensors")
# These have the same module.
SAME = {"opencv-contrib-python-headless": ("opencv-contrib-python", "opencv-python", "opencv-python-headless")}
_GLIBC = range(5, 29)  # minor versions whose wheels fit the oldest systems that JAX supports for GPUs


def read_list(text: str) -> dict[str, str]:
    """Returns version by name from what `pip list` or `pip freeze` print; "" where a line has a name alone."""
    found = {}
    for line in text.splitlines():
        match = re.fullmatch(r"\s*([A-Za-z0-9][\w.-]*?)(?:\s*==\s*|\s+)?([0-9][\w.+!-]*)?(?:\s+/.*)?\s*", line)
        if match and match[1] != "Package":
            found[canonicalize_name(match[1])] = match[2] or ""
    return found


def needed() -> list[Requirement]:
    """Returns the declared requirements of training."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return [one for one in map(Requirement, declared) if canonicalize_name(one.name) not in UNUSED]


def missing(requirements: list[Requirement], have: dict[str, str]) -> list[Requirement]:
    """Returns those that are not there; a version that is there and does not fit is an error.

    Raises:
      UserError: says which.
    """
    found = []
    for one in requirements:
        name = canonicalize_name(one.name)
        version = next((have[same] for same in (name, *SAME.get(name, ())) if same in have), None)
        if version is None:
            found.append(one)
        elif version and not one.specifier.contains(version, prereleases=True):
            raise UserError(f"{one.name} {version} is there, and {one} is needed")
    return found


def download(requirements: list[Requirement], have: dict[str, str], out: Path, python: str) -> list[Path]:
    """Downloads requirements, and what of theirs is missing, in turn; returns the wheels."""
    platforms = ["linux_x86_64", "manylinux1_x86_64", "manylinux2010_x86_64", "manylinux2014_x86_64"]
    platforms += [f"manylinux_2_{minor}_x86_64" for minor in _GLIBC]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--implementation", "cp", "--python-version", python, "--dest", str(out)]
    command += [word for platform in platforms for word in ("--platform", platform)]
    have, wheels = dict(have), []
    while requirements:
        done = subprocess.run([*command, *map(_plain, requirements)], capture_output=True, text=True)
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["ERROR: no message"]
            raise UserError(f"pip download {' '.join(map(_plain, requirements))}: {said[-1][7:]}")
        new = [path for path in sorted(out.glob("*.whl")) if path not in wheels]
        wheels += new
        have |= {canonicalize_name(path.name.split("-")[0]): path.name.split("-")[1] for path in new}
        requirements = missing([one for path in new for one in _needs_of(path, python)], have)
    return wheels


def _plain(requirement: Requirement) -> str:
    return f"{requirement.name}{requirement.specifier}"


def _needs_of(wheel: Path, python: str) -> list[Requirement]:
    """Returns what a wheel needs, without extras, on Linux."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    there = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    there |= {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix"}
    needs = map(Requirement, metadata.get_all("Requires-Dist") or [])
    return [one for one in needs if one.marker is None or one.marker.evaluate(there)]


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--have", type=Path, metavar="FILE", help="names, with versions or without, one a line")
    parser.add_argument("--out", type=Path, metavar="DIR", help="empty folder for the wheels (default wheels)")
    parser.add_argument("--python", default="3.12", metavar="X.Y", help="version there (default 3.12)")
    parser.add_argument("--limit-mib", type=positive, default=64, metavar="N", help="all wheels together (default 64)")
    parser.add_argument("--debug", action="store_true", help="show a traceback on errors")
    flags = parser.parse_args()
    if flags.have:
        try:
            have = read_list(flags.have.read_text("utf-8"))
        except UnicodeDecodeError as error:
            raise UserError(f"--have {flags.have}: no text in UTF-8 ({error}); save what `pip list` prints") from None
    else:
        have = {canonicalize_name(one.name): one.version for one in importlib.metadata.distributions()}
    first = missing(needed(), have)
    if not first:
        print("nothing is missing")
        return
    out = flags.out or Path("wheels")
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out}: is not empty; name an empty folder")
    out.mkdir(parents=True, exist_ok=True)
    wheels = download(first, have, out, flags.python)
    sizes = {path.name: path.stat().st_size / 2**20 for path in wheels}
    for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
        print(f"{size:7.2f} MiB  {name}")
    total = sum(sizes.values())
    if total > flags.limit_mib:
        raise UserError(f"{total:.1f} MiB in {out}, more than the {flags.limit_mib} MiB that it may have")
    print(
        f"{total:.1f} MiB. Where they are needed:\n"
        f"python3 -m pip install --no-index --no-deps --target site {out}/*.whl && export PYTHONPATH=$PWD/site"
    )


if __name__ == "__main__":
    run_command(main)
