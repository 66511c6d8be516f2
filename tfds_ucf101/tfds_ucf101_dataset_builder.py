"""UCF101, or any folder of videos laid out like it, as an ArrayRecord data set of JPEG frames.

    tfds build tfds_ucf101 --manual_dir=DIR --data_dir=OUT
    tfds build tfds_ucf101 --config '{"name": "short160", "short_side": 160}' --manual_dir=DIR --data_dir=OUT

The keys of a config are those of `tfds_ucf101.config.VideoConfig`.
"""

import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core import constants
from tensorflow_datasets.core.dataset_builder import FileReaderBuilder

from r23d_jax.data import index as indices
from r23d_jax.errors import UserError
from r23d_jax.runtime.files import locked
from tfds_ucf101 import command, download, index, pipeline, records, report, sources, unfinished, writing
from tfds_ucf101.config import DEFAULT, NAMED, VideoConfig
from tfds_ucf101.layouts import ucf101

SPLIT = "videos"

_DESCRIPTION = """
Actions in short videos, laid out like UCF101 (Soomro, Zamir, Shah 2012; 101 classes, 13,320 videos).

There is one TFDS split, `videos`, and every video is in it once. The features `split1`, `split2`, `split3` and so on
say of every video whether it is train (1), test (2), val (3) or neither (0) in that split of the data set; the splits
share their videos. So there is no TFDS split `train` or `test`: load `videos` and choose by these features.
"""
_INSTRUCTIONS = """
Give --manual_dir=DIR. DIR is UCF101 in any form (unpacked, its archives, frames), or holds a folder a class with
videos or folders of frames, or train, val and test with such folders each, or videos anywhere and a table videos.csv
with the columns path, label and split. Without it UCF101 is downloaded. docs/own-data.md has all that is read.
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

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES = {
        "1.1.0": "Records have the time of each frame (`seconds`) and one picture for TFDS's viewers (`picture`); the "
        "index is columns in videos.npz; validation sides.",
        "1.0.0": "First release.",
    }
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
            features=records.features(self.builder_config.split_names, flow=self.builder_config.flow is not None),
            metadata=tfds.core.MetadataDict(),
        )

    def download_and_prepare(
        self,
        *,
        download_dir: str | os.PathLike | None = None,
        download_config: tfds.download.DownloadConfig | None = None,
        file_format: str | None = None,
    ) -> None:
        """Builds the data set, unless it is there already.

        On any error, and also if the process is killed, there is no data set; but the shards that were finished stay
        beside it, in a folder that is named, and the next build uses them.

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
        # Those of a build that was killed are there, and empty.
        made = [folder for folder in folders if not folder.exists() or (folder in folders[:2] and not download_dir)]
        self._work: unfinished.Unfinished | None = None
        try:
            super().download_and_prepare(download_dir=download_dir, download_config=chosen, file_format=file_format)
        except BaseException:
            if self._work is not None:
                self._keep_or_remove(self._work)
            raise
        else:
            if self._work is not None:
                self._work.remove()
        finally:
            _remove_empty(made)

    def _keep_or_remove(self, work: unfinished.Unfinished) -> None:
        """After an error: finished shards stay for the next build. Those of a rendered input fit no other."""
        finished = work.finished()
        if not finished or self.builder_config.motion is not None:
            work.remove()
            return
        writing.say(
            f"finished shards: {finished:,} stay in {work.path} for the next build of the same; delete the folder if "
            "there will be none"
        )

    def _check_built_alike(self, chosen: tfds.download.DownloadConfig) -> None:
        """TFDS would reuse what is there; say so where it was built with other options or of other videos."""
        if not (Path(self.data_path) / indices.INDEX).exists():
            return
        config: VideoConfig = self.builder_config
        written = indices.read(Path(self.data_path))
        built = written.head["config"]
        for key, value in config.to_dict().items():
            if built.get(key) != value:
                raise UserError(
                    f"{self.data_path} was built with {key} = {built.get(key)!r}, not {value!r}: "
                    "give another name in the config, or --overwrite to build it again"
                )
        if config.motion is not None or not chosen.manual_dir or chosen.max_examples_per_split:
            return
        root = Path(chosen.manual_dir)
        plan = sources.scan(root, config, self._unpacked())
        again = "give another --data_dir, another name in the config, or --overwrite to build it again"
        planned = {source.name: source for source in plan.sources}
        known = set(written.videos.names()) <= planned.keys()
        if not known or len(planned) != len(written.videos) + len(written.head["unreadable"]):
            raise UserError(f"{self.data_path} was built of other videos than those of {root}: {again}")
        for video in written.videos:
            source = planned[video.name]
            label, sides = plan.class_names[source.label], records.sides(source, plan.splits)
            if (label, sides) != (written.class_names[video.label], video.splits):
                raise UserError(
                    f"{self.data_path} was built by other lists than those of {root}, see {video.name}: {again}"
                )
        built = os.stat(Path(self.data_path) / indices.INDEX).st_mtime
        newer = [source.shown for source in plan.sources if _changed(source.media.path) > built]
        if newer:
            writing.say(
                f"{len(newer):,} videos are newer than {self.data_path}, which is used as it is, first {newer[0]}; if "
                f"they are others than then: {again}"
            )

    def _download_and_prepare(
        self, dl_manager: tfds.download.DownloadManager, download_config: tfds.download.DownloadConfig
    ) -> None:
        """Reads the folder, runs the pipeline, and writes index and report beside the shards."""
        config: VideoConfig = self.builder_config
        options = download_config.beam_options or pipeline.default_options()
        pipeline.fit_to_runner(options)
        workers = pipeline.local_workers(options, download_config.beam_runner)
        with ExitStack() as stack:
            stack.enter_context(locked(self.data_path))  # so that no other build takes it for a killed one's
            if config.motion is None:
                root = _input(dl_manager, download_config)
            elif workers:
                root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="motion_")))
                _render(root, config.motion)
            else:
                raise UserError("motion is rendered on this machine: build it without a cluster runner")
            plan = sources.scan(root, config, self._unpacked())
            how = writing.Pipeline(
                build=unfinished.build_key(
                    str(self.version), config.frame_options(), self.info.file_format.value, config.split_names, root
                ),
                file_format=self.info.file_format.value,
                options=options,
                runner=download_config.beam_runner,
                workers=workers,
                max_examples=download_config.max_examples_per_split,
                num_shards=download_config.num_shards,
            )
            work = unfinished.Unfinished(Path(self.data_dir_root) / unfinished.FOLDER / how.build)
            about = {"what": "unfinished work of `tfds build`", "input": f"{root}", "config": config.to_dict()}
            with work.at_work(about):
                self._work = work  # ours from here on, to keep or to remove
                self._remove_killed()
                written = writing.write_shards(plan, config, work, how)
                there = Path(self.data_path).parent / str(self.version)
                if there.exists() and not download_config.download_mode.overwrite_dataset:
                    raise UserError(
                        f"{there}: another process has built a data set of the same name meanwhile; give another "
                        "name in the config, or another --data_dir"
                    )
                if not download_config.max_examples_per_split:
                    writing.judge_sides(plan, written)
                self._finish(plan, written, workers)

    def _unpacked(self) -> Path:
        """Where rar files are unpacked, once; zip files are read as they are."""
        return Path(self.data_dir_root) / "unpacked"

    def _remove_killed(self) -> None:
        """Removes what TFDS began in builds of this that were killed; their shards lie elsewhere."""
        for path in Path(self.data_path).parent.glob(f"{constants.INCOMPLETE_PREFIX}*_{self.version}"):
            if path != Path(self.data_path):
                with locked(path) as killed:
                    if killed:  # and not at work, on another input
                        shutil.rmtree(path)

    def _finish(self, plan: sources.Plan, written: writing.Written, workers: int | None) -> None:
        """Writes index, report and metadata, brings the shards to their place, and tells TFDS of them."""
        config: VideoConfig = self.builder_config
        folder = Path(self.data_path)
        videos = [video for facts in written.facts for video in facts["videos"]]
        findings = [found for facts in written.facts for found in facts["findings"]]
        about = report.report(
            config.to_dict(),
            plan,
            videos,
            written.unreadable,
            sorted(findings, key=lambda found: found["path"]),
            encoded=written.encoded,
            reused=written.reused,
            seconds=written.seconds,
            workers=workers,
        )
        for line in report.summary(about):
            writing.say(line)
        paths = [self._shard_path(number, len(written.keys)) for number in range(len(written.keys))]
        files = {
            path.name: {"bytes": facts["bytes"], "records": len(facts["videos"])}
            for path, facts in zip(paths, written.facts, strict=True)
        }
        fingerprint = index.fingerprint(plan.class_names, videos)
        head = index.head(self.name, config.to_dict(), plan, files, written.unreadable, fingerprint)
        indices.write_columns(folder, indices.columns(videos, plan.splits))
        index.write_json(folder / indices.INDEX, head)
        index.write_json(folder / report.FILE, about)
        index.write_splits(folder / index.SPLITS_FILE, plan)
        for key, path in zip(written.keys, paths, strict=True):
            self._work.place(key, Path(path))
        # TFDS's viewers look into every value here, and stop at one that holds nothing to look into.
        self.info.metadata.update(
            losses={"unreadable": len(written.unreadable)},
            fingerprint=fingerprint,
            splits=list(plan.splits),
            flow=head["flow_details"] or {},
            leak_check="on" if plan.leak_check else "off",
        )
        self.info.features["label"].names = list(plan.class_names)
        if set(plan.class_names) <= set(ucf101.CLASSES):  # other videos have other authors
            proto = self.info.as_proto
            proto.citation, proto.location.urls[:] = _CITATION.strip(), [_HOMEPAGE]
        split = tfds.core.SplitInfo(
            name=SPLIT,
            shard_lengths=[len(facts["videos"]) for facts in written.facts],
            num_bytes=sum(facts["bytes"] for facts in written.facts),
            filename_template=self._get_filename_template(SPLIT),
        )
        self.info.set_splits(tfds.core.splits.SplitDict([split]))

    def _shard_path(self, number: int, count: int) -> Any:
        template = self._get_filename_template(SPLIT)
        return template.sharded_filepath(shard_index=number, num_shards=count)


def _changed(path: str) -> float:
    """When a video's file or folder was changed; 0 where that is not known."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


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


def _input(dl_manager: tfds.download.DownloadManager, config: tfds.download.DownloadConfig) -> Path:
    """The folder that the user gave or that TFDS has for what is downloaded by hand, or else a download."""
    try:
        return Path(dl_manager.manual_dir)
    except AssertionError:  # TFDS's way to say that it is missing or empty
        if config.manual_dir:
            return Path(config.manual_dir)
    writing.say("no --manual_dir with videos: downloading UCF101 (Ctrl-C stops it)")
    return download.fetch(dl_manager, download.FILES)


def _render(root: Path, options: dict[str, int]) -> None:
    # Imported here: it needs OpenCV, which no other config does.
    from tfds_ucf101 import motion

    writing.say("rendering motion ...")
    motion.render(root, **options)


def _remove_empty(folders: Sequence[Path]) -> None:
    """Removes those that TFDS made on its way and left empty, or with no more than its note of the default."""
    for folder in folders:
        if folder.exists() and {child.name for child in folder.iterdir()} <= {".config"}:
            shutil.rmtree(folder)
