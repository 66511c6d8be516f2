"""From the plan of a build to its shards: what is there already is used, the rest checked first and then written."""

import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from apache_beam.options.pipeline_options import PipelineOptions

from r23d_jax.errors import UserError
from r23d_jax.runtime.text import bytes_text
from tfds_ucf101 import checking, pipeline, unfinished
from tfds_ucf101.config import VideoConfig
from tfds_ucf101.progress import Progress
from tfds_ucf101.sources import Plan, Source
from tfds_ucf101.unfinished import Unfinished

# An estimate from a few frames may be wrong by so much; with less free the build is refused.
_SURELY_TOO_LITTLE = 0.5


@dataclass(frozen=True)
class Written:
    """The shards of a data set, all in the folder of unfinished work.

    Attributes:
      keys: of the shards with videos, in order.
      facts: of the same shards: "videos", "bytes", "findings".
      unreadable: the videos left out, with "path" and "reason", sorted.
      reused: how many shards were there already.
      encoded: frames that were decoded and encoded for the others.
      seconds: that took.
    """

    keys: tuple[str, ...]
    facts: tuple[Mapping[str, Any], ...]
    unreadable: tuple[Mapping[str, str], ...]
    reused: int
    encoded: int
    seconds: float


@dataclass(frozen=True)
class Pipeline:
    """How the shards are written.

    Attributes:
      build: from `unfinished.build_key`.
      file_format: of TFDS.
      options, runner: of Beam.
      workers: processes on this machine; None where they are elsewhere.
      max_examples, num_shards: as in TFDS's download config; None for all videos, and for the number that fits them.
    """

    build: str
    file_format: str
    options: PipelineOptions
    runner: Any
    workers: int | None
    max_examples: int | None = None
    num_shards: int | None = None


def write_shards(plan: Plan, config: VideoConfig, work: Unfinished, how: Pipeline) -> Written:
    """Writes the shards that are not there yet. The caller holds the folder `work`.

    Raises:
      UserError: more videos than `max_unreadable` cannot be read, not one can, or the disk is full. Shards that were
        finished stay.
    """
    say_plan(plan)
    ordered = pipeline.in_record_order(plan.sources)[: how.max_examples]
    parts = pipeline.parts(ordered, pipeline.shard_count(len(ordered), how.num_shards, _computes_flow(config)))
    keys = _keys(plan, parts, how.build)
    missing, lost = _missing(keys, config, work)
    if len(missing) < len(keys):
        say(f"goes on: {len(keys) - len(missing):,} of {len(keys):,} shards are there already")
    todo = [source for place in missing for source in parts[place]]
    looked = checking.look(todo, shown=how.workers is not None)
    known = {source.name: one.reason for source, one in zip(todo, looked, strict=True) if one.reason}
    lost |= {
        source.shown: {"path": source.shown, "reason": known[source.name]} for source in todo if source.name in known
    }
    judge(sorted(lost.values(), key=lambda one: one["path"]), len(ordered) - len(lost), config)
    for one in lost.values():
        work.note_unreadable(one)
    shards = pipeline.pack(
        work.videos,
        (
            (place, keys[place], parts[place], {one.name: known[one.name] for one in parts[place] if one.name in known})
            for place in missing
        ),
    )
    started = time.monotonic()
    encoded = 0
    if shards:
        readable = [source for source in todo if source.name not in known]
        frames = checking.expected_frames(looked)
        _say_disk(readable, frames, config, work.path)
        encoded = _run(shards, len(todo), frames, plan, config, work, how)
    seconds = time.monotonic() - started
    facts = [_read(work, key) for key in keys]
    unreadable = sorted((one for fact in facts for one in fact["unreadable"]), key=lambda one: one["path"])
    filled = [(key, fact) for key, fact in zip(keys, facts, strict=True) if fact["videos"]]
    judge(unreadable, sum(len(fact["videos"]) for _, fact in filled), config)
    return Written(
        keys=tuple(key for key, _ in filled),
        facts=tuple(fact for _, fact in filled),
        unreadable=tuple(unreadable),
        reused=len(keys) - len(missing),
        encoded=encoded,
        seconds=seconds,
    )


def judge(unreadable: Sequence[Mapping[str, str]], readable: int, config: VideoConfig) -> None:
    """Raises a UserError if more videos cannot be read than the config allows, or none can."""
    if len(unreadable) > config.max_unreadable:
        plain, keys = VideoConfig(name=config.name).to_dict(), config.to_dict()
        keys = {key: value for key, value in keys.items() if value != plain[key] and value is not None}
        accepting = json.dumps({"name": f"{config.name}_accepting", **keys, "max_unreadable": len(unreadable)})
        names = "; ".join(f"{lost['path']}: {lost['reason']}" for lost in unreadable[:5])
        more = f"; and {len(unreadable) - 5} more" if len(unreadable) > 5 else ""
        raise UserError(
            f"unreadable videos: {len(unreadable)} ({names}{more}); mend or remove them, or accept so many with "
            f"--config '{accepting}'"
        )
    if not readable:
        raise UserError("not one video is readable; there is nothing to build")


def judge_sides(plan: Plan, written: Written) -> None:
    """Raises a UserError if a split has lost all its train or all its test videos to damage."""
    for split in plan.splits:
        there = {video["splits"][split] for facts in written.facts for video in facts["videos"]}
        lost = next((side for side in ("train", "test") if side not in there), None)
        if lost is not None:
            raise UserError(f"split {split} has no {lost} video that can be read: mend them, or change who is {lost}")


def say_plan(plan: Plan) -> None:
    """What the folder was taken for, before anything is done with it."""
    for line in (plan.layout, *plan.notes):
        if line:
            say(line)
    if not plan.leak_check:
        say("leak check off: a source video may be on both sides of a split")


def say(line: str) -> None:
    """A line on stderr, as the progress bar."""
    print(line, file=sys.stderr, flush=True)


def _computes_flow(config: VideoConfig) -> bool:
    return config.flow is not None and not config.flow_files


def _keys(plan: Plan, parts: Sequence[Sequence[Source]], build: str) -> list[str]:
    identities = iter(checking.identities([source for part in parts for source in part]))
    return [unfinished.shard_key(build, plan.splits, part, [next(identities) for _ in part]) for part in parts]


def _missing(
    keys: Sequence[str], config: VideoConfig, work: Unfinished
) -> tuple[list[int], dict[str, Mapping[str, str]]]:
    """The places of the shards that are to be written, and the unreadable videos of the others by their path.

    Shards with unreadable videos count as missing where there are too many: it may have been the disk's fault.
    """
    missing, lost, losing = [], {}, []
    for place, key in enumerate(keys):
        facts = work.facts(key)
        if facts is None:
            missing.append(place)
        elif facts["unreadable"]:
            losing.append(place)
            lost |= {one["path"]: one for one in facts["unreadable"]}
    if len(lost) > config.max_unreadable:
        return sorted(missing + losing), {}
    return missing, lost


def _run(
    shards: Sequence[pipeline.Shard],
    videos: int,
    frames: int,
    plan: Plan,
    config: VideoConfig,
    work: Unfinished,
    how: Pipeline,
) -> int:
    """Runs the pipeline; returns the number of frames encoded, 0 where the workers are elsewhere."""
    with Progress(videos, frames, shown=how.workers is not None) as progress:
        write = pipeline.WriteShard(
            config.frame_options(),
            plan.splits,
            how.file_format,
            work,
            config.max_unreadable,
            progress.folder if how.workers else None,
        )
        runner = how.runner or (pipeline.local_runner(how.options) if how.workers else None)
        done = pipeline.run(shards, write, work.path / "results", how.options, runner)
    for shard in done:
        if "error" in shard:
            raise UserError(shard["error"])
    if any("stopped" in shard for shard in done):
        judge(work.unreadable(), 1, config)
        raise UserError(f"{work.path}: the build was stopped; start it again")  # its other end says why
    return progress.frames


def _read(work: Unfinished, key: str) -> dict[str, Any]:
    facts = work.facts(key)
    if facts is None:
        raise UserError(f"{work.shard(key)}: this shard is gone; start the build again")
    for video in facts["videos"]:
        if video.get("times") is not None:
            video["times"] = np.asarray(video["times"], np.float64)
    return facts


def _say_disk(readable: Sequence[Source], frames: int, config: VideoConfig, folder: Path) -> None:
    """Says what the build will take, if that is known, and what there is.

    Raises:
      UserError: there surely is too little.
    """
    needed = round(frames * checking.bytes_per_frame(readable, config.frame_options()))
    if not needed:
        return
    data_dir, free = folder.parent.parent, shutil.disk_usage(folder).free
    about, there = bytes_text(needed), bytes_text(free)
    say(f"about {about} for {_count(frames)} frames; {there} free in {data_dir}")
    if free < _SURELY_TOO_LITTLE * needed:
        raise UserError(
            f"{data_dir}: about {about} are needed and {there} are free; free some, give another --data_dir, or store "
            "smaller frames (config keys size, short_side, quality)"
        )


def _count(number: int) -> str:
    return f"{number / 1e6:.1f} million" if number >= 1e6 else f"{number:,}"
