"""UCF101, or any folder of videos laid out like it, as an ArrayRecord data set of JPEG frames.

    tfds build tfds_ucf101 --manual_dir=DIR --data_dir=OUT
    tfds build tfds_ucf101 --config '{"name": "short160", "short_side": 160}' --manual_dir=DIR --data_dir=OUT

The keys of a config are those of `tfds_ucf101.config.VideoConfig`.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core.dataset_builder import FileReaderBuilder

from r23d_jax.errors import UserError
from tfds_ucf101 import cache, command, index, lists, pipeline, records, sources
from tfds_ucf101.config import DEFAULT, NAMED, VideoConfig
from tfds_ucf101.progress import Progress

SPLIT = "videos"

_DESCRIPTION = """
Actions in short videos, laid out like UCF101 (Soomro, Zamir, Shah 2012; 101 classes, 13,320 videos).

There is one TFDS split, `videos`, and every frame is in it once. The features `split1`, `split2` and `split3`
say of every video whether it is train (1), test (2) or neither (0) in the three official splits, which share
their videos; so there is no TFDS split `train` or `test`: load `videos` and choose by these features.
"""
_INSTRUCTIONS = """
Give --manual_dir=DIR with DIR/videos/<Class>/<file> or DIR/frames/<Class>/<video>/<image>, and, unless the
names are like v_<Class>_g01_c01.avi, lists: DIR/ucfTrainTestlist with classInd.txt, trainlist01.txt and
testlist01.txt, or HMDB51's DIR/testTrainMulti_7030_splits; or a table DIR/videos.csv with the columns path, label
and split, where the videos may lie anywhere in DIR.
"""
_HOMEPAGE = "https://www.crcv.ucf.edu/data/UCF101.php"
_CITATION = """
@article{soomro2012ucf101,
  title={UCF101: A Dataset of 101 Human Actions Classes From Videos in The Wild},
  author={Soomro, Khurram and Zamir, Amir Roshan and Shah, Mubarak},
  journal={arXiv preprint arXiv:1212.0402},
  year={2012}
}
"""


class Builder(FileReaderBuilder):
    """Builds shards of videos with Apache Beam and reads them with TFDS."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    # `tfds build` without --config builds every entry of this list; the others are in `builder_configs`.
    BUILDER_CONFIGS = [DEFAULT]
    MANUAL_DOWNLOAD_INSTRUCTIONS = _INSTRUCTIONS

    @tfds.core.utils.classproperty
    @classmethod
    def builder_configs(cls) -> dict[str, VideoConfig]:
        """All named configs."""
        return NAMED

    @tfds.core.utils.classproperty
    @classmethod
    def builder_config_cls(cls) -> type[VideoConfig]:
        """The class that `tfds build` makes from the JSON of --config."""
        command.tell_mistakes_in_one_line()
        return VideoConfig

    def __init__(
        self,
        *,
        data_dir: str | os.PathLike | None = None,
        config: str | VideoConfig | None = None,
        version: str | tfds.core.Version | None = None,
        file_format: str | None = None,
    ):
        command.tell_mistakes_in_one_line()
        _check_config(config)
        super().__init__(data_dir=data_dir, config=config, version=version, file_format=file_format)
        if file_format is None and not self.info.initialized:
            # The base class has just set TFDS's default, which has no random access.
            self.info.set_file_format("array_record", override=True)

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description=_DESCRIPTION,
            features=records.features(),
            metadata=tfds.core.MetadataDict(),
        )

    def download_and_prepare(
        self,
        *,
        download_dir: str | os.PathLike | None = None,
        download_config: tfds.download.DownloadConfig | None = None,
        file_format: str | None = None,
    ) -> None:
        """Builds the data set, unless it is there already; on any error nothing of it stays behind.

        Raises:
          UserError: the input or the config is at fault, or more videos than `max_unreadable` are unreadable.
        """
        chosen = download_config or tfds.download.DownloadConfig()
        if self.data_path.exists() and not chosen.download_mode.overwrite_dataset:
            self._check_built_alike(chosen)
        _check_download_config(chosen)
        # There is nothing to find in TFDS's bucket, and looking takes time.
        chosen = chosen.replace(try_download_gcs=False)
        downloads = Path(download_dir or Path(self.data_dir_root) / "downloads")
        folders = [downloads / "extracted", downloads, *Path(self.data_path).parents]
        made = [folder for folder in folders if not folder.exists()]
        try:
            super().download_and_prepare(download_dir=download_dir, download_config=chosen, file_format=file_format)
            shutil.rmtree(self._cache_folder(), ignore_errors=True)  # now it is in the shards
            made.append(self._cache_folder().parent)  # of an interrupted build
        finally:
            _remove_empty(made)

    def _check_built_alike(self, chosen: tfds.download.DownloadConfig) -> None:
        """TFDS would reuse what is there; say so where it was built with other options or of other videos."""
        path = Path(self.data_path) / index.INDEX_FILE
        if not path.exists():
            return
        config: VideoConfig = self.builder_config
        written = index.read_json(path)
        built = written["config"]
        for key, value in config.to_dict().items():
            if built.get(key) != value:
                raise UserError(
                    f"{self.data_path} was built with {key} = {built.get(key)!r}, not {value!r}: "
                    "give another name in the config, or --overwrite to build it again"
                )
        if config.motion is not None or not chosen.manual_dir or chosen.max_examples_per_split:
            return
        root = Path(chosen.manual_dir)
        plan = sources.scan(root, use_lists=config.lists, classes=config.classes, subset=config.subset)
        again = "give another --data_dir, another name in the config, or --overwrite to build it again"
        there = {video["name"]: video for video in written["videos"]}
        planned = {source.name: source for source in plan.sources}
        if not there.keys() <= planned.keys() or len(planned) != len(there) + len(written["unreadable"]):
            raise UserError(f"{self.data_path} was built of other videos than those of {root}: {again}")
        for name, video in there.items():
            label, sides = plan.class_names[planned[name].label], records.sides(planned[name], plan.splits)
            if (label, sides) != (written["class_names"][video["label"]], video["splits"]):
                raise UserError(f"{self.data_path} was built by other lists than those of {root}, see {name}: {again}")

    def _download_and_prepare(
        self, dl_manager: tfds.download.DownloadManager, download_config: tfds.download.DownloadConfig
    ) -> None:
        """Reads the folder, runs the pipeline, and writes index and report beside the shards."""
        config: VideoConfig = self.builder_config
        options = download_config.beam_options or pipeline.default_options()
        workers = pipeline.local_workers(options, download_config.beam_runner)
        with ExitStack() as stack:
            if config.motion is None:
                root = Path(download_config.manual_dir or Path(dl_manager.download_dir) / "manual")
            elif workers:
                root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="motion_")))
                _render(root, config.motion)
            else:
                raise UserError("motion is rendered on this machine: build it without a cluster runner")
            plan = sources.scan(root, use_lists=config.lists, classes=config.classes, subset=config.subset)
            started = time.monotonic()
            done = self._write_shards(plan, download_config, options, workers)
            self._finish(plan, done, time.monotonic() - started, workers)

    def _cache_folder(self) -> Path:
        """The same for every config that makes the same pictures, so that another name loses nothing."""
        made_of = json.dumps([dataclasses.asdict(self.builder_config.frame_options()), self.builder_config.flow])
        return Path(self.data_dir_root) / cache.FOLDER / hashlib.sha256(made_of.encode()).hexdigest()[:12]

    def _write_shards(
        self,
        plan: sources.Plan,
        download_config: tfds.download.DownloadConfig,
        options: Any,
        workers: int | None,
    ) -> list[dict[str, Any]]:
        config: VideoConfig = self.builder_config
        ordered = pipeline.in_record_order(plan.sources)[: download_config.max_examples_per_split]
        parts = pipeline.parts(ordered, pipeline.shard_count(len(ordered), download_config.num_shards))
        shards = [pipeline.Shard(i, os.fspath(self._shard_path(i, len(parts))), part) for i, part in enumerate(parts)]
        with Progress(len(ordered), shown=workers is not None) as progress:
            write = pipeline.WriteShard(
                config.frame_options(),
                plan.splits,
                self.info.file_format.value,
                progress.folder if workers else None,
                os.fspath(self._cache_folder()),
            )
            runner = download_config.beam_runner or (pipeline.local_runner(options) if workers else None)
            return pipeline.run(shards, write, Path(self.data_path) / ".results.json", options, runner)

    def _finish(self, plan: sources.Plan, done: Sequence[dict[str, Any]], seconds: float, workers: int | None) -> None:
        """Judges the losses, then writes index, report and metadata, and tells TFDS of the shards."""
        config: VideoConfig = self.builder_config
        for shard in done:
            if "error" in shard:
                raise UserError(shard["error"])
        unreadable, short = (
            sorted((video for shard in done for video in shard[kind]), key=lambda video: video["path"])
            for kind in ("unreadable", "short")
        )
        filled = [shard for shard in done if shard["videos"]]
        videos = [video for shard in filled for video in shard["videos"]]
        report = index.report(config.to_dict(), plan, videos, unreadable, short, seconds, workers)
        for line in index.summary(report):
            print(line, file=sys.stderr)
        _judge(unreadable, len(videos), config)
        files = {}
        for number, shard in enumerate(filled):
            path = self._shard_path(number, len(filled))
            if len(filled) < len(done):  # a shard lost all its videos: the others move up
                self._shard_path(shard["index"], len(done)).rename(path)
            files[path.name] = {"bytes": shard["bytes"]}
        content = index.index(self.name, config.to_dict(), plan, files, videos, unreadable)
        index.write_json(Path(self.data_path) / index.INDEX_FILE, content)
        index.write_json(Path(self.data_path) / index.REPORT_FILE, report)
        self.info.metadata.update(
            unreadable=len(unreadable),
            fingerprint=content["fingerprint"],
            splits=list(plan.splits),
            flow=content.get("flow_details"),
        )
        self.info.features["label"].names = list(plan.class_names)
        if set(plan.class_names) <= set(lists.UCF101_CLASSES):  # other videos have other authors
            about = self.info.as_proto
            about.citation, about.location.urls[:] = _CITATION.strip(), [_HOMEPAGE]
        split = tfds.core.SplitInfo(
            name=SPLIT,
            shard_lengths=[len(shard["videos"]) for shard in filled],
            num_bytes=sum(shard["bytes"] for shard in filled),
            filename_template=self._get_filename_template(SPLIT),
        )
        self.info.set_splits(tfds.core.splits.SplitDict([split]))

    def _shard_path(self, number: int, count: int) -> Any:
        template = self._get_filename_template(SPLIT)
        return template.sharded_filepath(shard_index=number, num_shards=count)


def _check_config(config: str | VideoConfig | None) -> None:
    if isinstance(config, str) and config.split(":")[0] not in NAMED:
        raise UserError(
            f"there is no config {config!r}; there are {', '.join(NAMED)}, and your own as JSON: "
            '--config \'{"name": "short160", "short_side": 160}\''
        )
    if isinstance(config, VideoConfig) and NAMED.get(config.name, config) is not config:
        raise UserError(f"config key name is {config.name!r}, which is a named config; give your own another name")


def _check_download_config(config: tfds.download.DownloadConfig) -> None:
    if config.max_examples_per_split == 0:
        raise UserError("--max_examples_per_split=0 leaves nothing to build; give 1 or more")
    if config.max_shard_size != tfds.download.DownloadConfig().max_shard_size:
        raise UserError("--max_shard_size_mb does not apply here: the number of shards is; give --num_shards")


def _render(root: Path, options: dict[str, int]) -> None:
    # Imported here: it needs OpenCV, which no other config does.
    from tfds_ucf101 import motion

    print("rendering motion ...", file=sys.stderr)
    motion.render(root, **options)


def _judge(unreadable: Sequence[dict[str, str]], readable: int, config: VideoConfig) -> None:
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


def _remove_empty(folders: Sequence[Path]) -> None:
    """Removes those that TFDS made on its way and left empty, or with no more than its note of the default."""
    for folder in folders:
        if folder.exists() and {child.name for child in folder.iterdir()} <= {".config"}:
            shutil.rmtree(folder)
