"""Chooses features and a head by cross-validation over groups of training videos.

Every candidate is a set of stages, a number of parts of time, mirrored or not, a head and its regularisation. The best
linear ones are averaged, which is one linear head again. Nothing here sees a test video.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from r23d_jax.evaluation import metrics
from r23d_jax.models.head import VIEWS
from r23d_jax.probing import attention
from r23d_jax.probing.attention import Attention
from r23d_jax.probing.heads import HEADS, NEIGHBOURS, Linear, Neighbours
from r23d_jax.probing.samples import PARTS, FeatureSet, Samples, weights_of
from r23d_jax.probing.space import Space
from r23d_jax.probing.validation import Candidate, Fold, Tried, cross_validate, folds, judge, rows_of

COMMITTEE = 5  # feature sets whose best heads are averaged
_SCREEN = ("lda", 0.3)  # the head that feature sets are compared with: the quickest, and hardly worse than the best
_DEEPEST = 3  # stages that are seen where nothing can be validated
_AFFORDABLE = {"svm": 20_000, "logistic": 200_000}  # clips times classes, above which a method would take hours
_MOST_POINTS = 1 << 28  # values of the training clips that nearest neighbours keep in the network: 1 GiB
_FINALISTS = 3  # feature sets that every head is tried on


@dataclasses.dataclass(frozen=True)
class Choice:
    """What was chosen, fitted to all training videos.

    Attributes:
      features: what the head sees.
      head: calibrated.
      tried: the candidates, best first; empty where there are too few videos for cross-validation.
      chosen: what the head is, in words.
      members: the candidates that it is the mean of.
      top1, spread: of the chosen head by cross-validation, NaN without.
      scores: float64 [V, C], probabilities of every training video by heads that saw no clip of its group, or None.
      folds: number of parts that the groups were divided into, 0 without.
      repeats: how often they were.
    """

    features: FeatureSet
    head: Linear | Neighbours | Attention
    tried: list[Tried]
    chosen: str
    members: list[Candidate]
    top1: float
    spread: float
    scores: np.ndarray | None
    folds: int
    repeats: int


def choose(samples: Samples, classes: int, seed: int = 0) -> Choice:
    """Tries the candidates and fits the best.

    Args:
      samples: of the training videos.
      classes: number of classes, all of which have training videos.
      seed: of the folds.
    """
    parts = list(folds(samples, seed))
    if not parts:
        return _without_validation(samples, classes)
    screened = cross_validate(samples, classes, parts, [Candidate(s, *_SCREEN) for s in samples.feature_sets()])
    finalists = _finalists(screened)
    candidates = [
        Candidate(s, name, value)
        for s in finalists
        for name, head in HEADS.items()
        if len(samples.video) * classes <= _AFFORDABLE.get(name, np.inf)
        for value in head.values
    ]
    rows = len(samples.video) * len(finalists[0].views)
    if rows * samples.vectors(finalists[0], VIEWS[0]).shape[1] < _MOST_POINTS:
        candidates += [Candidate(finalists[0], "neighbours", k) for k in NEIGHBOURS if k < len(samples.labels)]
    known = {one.candidate for one in screened}
    tried = screened + cross_validate(samples, classes, parts, [c for c in candidates if c not in known])
    tried.sort(key=_rank)
    committee = _committee(tried, finalists[0].mirrored)
    logits = sum(one.temperature * one.logits for one in committee) / len(committee)
    together = judge(None, logits, samples, parts)
    if samples.grids:
        tried.append(_attentive(samples, classes, parts, finalists[0].mirrored, seed))
        tried.sort(key=_rank)
    # What is not linear has to be clearly better, by a standard error: it cannot be averaged, and shows no maps.
    clearly = together.top1 + np.sqrt(together.top1 * (1 - together.top1) / len(samples.labels))
    best = next((one for one in tried if one.candidate.head not in HEADS and one.top1 > clearly), None)
    if best is not None:
        members, judged, features = [best.candidate], best, best.candidate.features
        head, chosen = _fit_alone(samples, classes, best, seed)
    else:
        members, judged = [one.candidate for one in committee], together
        features, head = _average(samples, classes, committee, together.temperature)
        chosen = f"the mean of the {len(members)} best linear heads"
    scores = samples.of_videos(metrics.softmax(judged.temperature * judged.logits))
    repeats = max(repeat for repeat, _, _ in parts) + 1
    return Choice(
        features, head, tried, chosen, members, judged.top1, judged.spread, scores, len(parts) // repeats, repeats
    )


def _without_validation(samples: Samples, classes: int) -> Choice:
    """The head where no group can be held out: the deepest stages in their order in time, strongly regularised."""
    features = FeatureSet(samples.stages[-_DEEPEST:], PARTS, VIEWS[1] in samples.averages)
    candidate = Candidate(features, "logistic", 1.0)
    head = _fit_linear(samples, classes, candidate)
    chosen = "logistic regression: there are too few videos to choose by cross-validation"
    return Choice(features, head, [], chosen, [candidate], float("nan"), float("nan"), None, 0, 0)


def _rank(one: Tried) -> tuple[float, float]:
    return -one.top1, one.loss


def _finalists(screened: Sequence[Tried]) -> list[FeatureSet]:
    """The best feature sets, all mirrored or all not: whichever is better, by the mean of its best."""
    ranked = sorted(screened, key=_rank)
    of = {
        mirrored: [one for one in ranked if one.candidate.features.mirrored == mirrored] for mirrored in (False, True)
    }
    best = {key: np.mean([one.top1 for one in ones[:_FINALISTS]]) for key, ones in of.items() if ones}
    return [one.candidate.features for one in of[max(best, key=lambda key: (best[key], key))][:_FINALISTS]]


def _committee(tried: Sequence[Tried], mirrored: bool) -> list[Tried]:
    """The best linear candidate of each of the best feature sets, best first: members that see different things."""
    best: dict[FeatureSet, Tried] = {}
    for one in tried:
        if one.candidate.head in HEADS and one.candidate.features.mirrored == mirrored:
            best.setdefault(one.candidate.features, one)
    return list(best.values())[:COMMITTEE]


def _attentive(samples: Samples, classes: int, parts: Sequence[Fold], mirrored: bool, seed: int) -> Tried:
    """Returns the cross-validation of an attentive head, over the first drawing of the folds only: it is slower."""
    candidate = Candidate(FeatureSet((samples.grid_of,), 1, mirrored), "attention", 0.0)
    once = [part for part in parts if part[0] == 0]
    logits = np.zeros((len(samples.video), classes))
    for _, train, held_out in once:
        head, clips = (
            _fit_attention(samples.only(train), classes, candidate.features.views, seed),
            samples.clips_of(held_out),
        )
        logits[clips] = np.mean([head(samples.grids[view][clips]) for view in candidate.features.views], axis=0)
    return judge(candidate, logits, samples, once)


def _fit_linear(samples: Samples, classes: int, candidate: Candidate) -> Linear:
    """Returns a linear head on raw features, fitted to all."""
    rows, labels, weights = rows_of(samples, candidate.features)
    space = Space.of(rows, weights)
    return space.fold(HEADS[candidate.head].fit(space.project(rows), labels, classes, weights, candidate.value))


def _fit_attention(samples: Samples, classes: int, views: Sequence[str], seed: int) -> Attention:
    video = np.tile(samples.video, len(views))
    grids = np.concatenate([samples.grids[view] for view in views])
    return attention.fit(grids, samples.labels[video], classes, weights_of(video), seed)


def _fit_alone(samples: Samples, classes: int, best: Tried, seed: int) -> tuple[Neighbours | Attention, str]:
    """Returns a head that is not linear, fitted to all and calibrated, and what it is in words."""
    features = best.candidate.features
    if best.candidate.head == "attention":
        head = _fit_attention(samples, classes, features.views, seed)
        scaled = {"kernel": head.kernel * best.temperature, "bias": head.bias * best.temperature}
        return dataclasses.replace(head, **scaled), "an attentive head"
    rows, labels, weights = rows_of(samples, features)
    head = Neighbours.of(rows, labels, classes, int(best.candidate.value), weights)
    head = dataclasses.replace(head, sharpness=head.sharpness * best.temperature)
    return head, f"the votes of the {best.candidate.value} nearest training clips"


def clip_logits(choice: Choice, samples: Samples) -> np.ndarray:
    """Returns float32 [N, C], the logits of each clip: the mean over the views, as the network computes them."""
    views = choice.features.views
    if isinstance(choice.head, Attention):
        found = [choice.head(samples.grids[view]) for view in views]
    else:
        found = [choice.head(samples.vectors(choice.features, view)) for view in views]
    return np.mean(found, axis=0).astype(np.float32)


def video_scores(choice: Choice, samples: Samples) -> np.ndarray:
    """Returns float64 [V, C], the mean softmax over each video's clips."""
    return samples.of_videos(metrics.softmax(clip_logits(choice, samples)))


def _average(samples: Samples, classes: int, committee: Sequence[Tried], scale: float) -> tuple[FeatureSet, Linear]:
    """Returns the mean of the committee's calibrated heads as one head on all that any of them sees."""
    stages = [s for s in samples.stages if any(s in one.candidate.features.stages for one in committee)]
    bins = max(one.candidate.features.bins for one in committee)
    union = FeatureSet(tuple(stages), bins, committee[0].candidate.features.mirrored)
    kernels, bias = {stage: 0.0 for stage in stages}, np.zeros(classes)
    for one in committee:
        head, factor = _fit_linear(samples, classes, one.candidate), scale * one.temperature / len(committee)
        bias += factor * head.bias
        at = 0
        for stage in one.candidate.features.stages:
            size = samples.channels[stage] * one.candidate.features.bins
            kernel = head.kernel[at : at + size].reshape(one.candidate.features.bins, -1, classes)
            # The average over all time is the mean of those over its parts.
            spread = np.repeat(kernel, bins, axis=0) / bins if len(kernel) < bins else kernel
            kernels[stage] = kernels[stage] + factor * spread.reshape(-1, classes)
            at += size
    kernel = np.concatenate([kernels[stage] for stage in stages])
    return union, Linear(kernel.astype(np.float32), bias.astype(np.float32))


def table(choice: Choice) -> list[dict[str, Any]]:
    """Returns what was tried, best first, as JSON values."""
    return [
        {**one.candidate.describe(), "cv_top1": one.top1, "cv_spread": one.spread, "cv_loss": one.loss}
        for one in choice.tried
    ]
