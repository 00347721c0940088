"""The rules of the claims' verdicts: functions of numbers, whose first sentence stands on the page.

A rule takes numbers by the names that its claim's measure gives them. Of a claim that is tried
on several families or sets it gets an array for each, with the digits first. Evidence is a number
that lies two standard errors or more from what would be no effect; without it a claim is neither
agreed nor disagreed with.
"""

import numpy as np

YES = "agrees"
PARTLY = "agrees in part"
NO = "disagrees"
UNDECIDED = "undecided"
LENGTH = "depends on the length of training"
PLACEBO = "holds for placebos as well"
OPEN = "not run"
VERDICTS = (YES, PARTLY, NO, UNDECIDED, LENGTH, PLACEBO, OPEN)


def _signs(values, errors):
    """1 where a value lies two standard errors or more above 0, -1 as far below, else 0."""
    values, errors = np.atleast_1d(values), np.atleast_1d(errors)
    return np.sign(values) * (np.abs(values) >= 2 * errors)


def _judged(signs) -> str:
    """All for it, some for it, some against it, or neither."""
    signs = np.atleast_1d(signs)
    if (signs > 0).all():
        return YES
    if (signs > 0).any():
        return PARTLY
    return NO if (signs < 0).any() else UNDECIDED


def viable(mean, wide):
    """Agrees where the 95% interval of the mean ratio of the two FIDs, over ensembles, lies within
    a factor of 1.25 either way, disagrees where it lies outside, else undecided."""
    bound = np.log(1.25)
    if abs(mean) + wide < bound:
        return YES
    return NO if abs(mean) - wide > bound else UNDECIDED


def hurts_then_helps(small, large):
    """Agrees where the ensemble's FID is more than 1.25 times the single model's on the smallest
    set and less than 0.8 times on the largest, disagrees where one is as far the other way, else
    undecided, since each rests on one trained single model."""
    if small > 1.25 and large < 0.8:
        return YES
    return NO if small < 0.8 or large > 1.25 else UNDECIDED


def classes_vanish(by_ablation, by_retraining, kept_by_ablation, kept_by_retraining):
    """Agrees where by both methods at least 9 of 10 classes are rarer by two standard errors and
    the shares that they keep differ by less than 10 points, disagrees where by one method fewer
    than 5 are rarer, else in part."""
    rarer = np.minimum(by_ablation, by_retraining)
    alike = np.abs(np.subtract(kept_by_ablation, kept_by_retraining)) < 0.1
    if ((rarer >= 9) & alike).all():
        return YES
    return NO if (rarer < 5).any() else PARTLY


def pullovers_rise(rise, error):
    """Agrees where pullovers are more frequent by two standard errors of the difference, disagrees
    where they are rarer by as much, else undecided."""
    return _judged(_signs(rise, error))


def lists_meet(ablation, retraining, ablation_error, retraining_error, chance):
    """Agrees where the lists of both methods meet the visual ones more often than chance by three
    standard errors, disagrees where those of one meet less often than chance, else undecided."""
    if min(ablation - 3 * ablation_error, retraining - 3 * retraining_error) > chance:
        return YES
    return NO if min(ablation, retraining) < chance else UNDECIDED


def lists_comparable(gap, error):
    """Agrees where the two shares are surely less than 10 points apart, two standard errors of
    their difference counted in, disagrees where they are surely apart, else undecided."""
    if abs(gap) + 2 * error < 0.1:
        return YES
    return NO if abs(gap) > 2 * error else UNDECIDED


def predicted_lists(gain, error):
    """Agrees where the lists meet visual ones more often on every set by two standard errors, in
    part where on one, disagrees where on one less often, else undecided."""
    return _judged(_signs(gain, error))


def looks_alike(ablation, retraining, ablation_error, retraining_error):
    """Agrees where both mean ranks are below 0.5 by two standard errors and surely less than 0.1
    apart, in part where only the first holds, disagrees where one is as far above 0.5, else
    undecided."""
    signs = _signs([0.5 - ablation, 0.5 - retraining], [ablation_error, retraining_error])
    verdict = _judged(signs)
    apart = abs(ablation - retraining) + 2 * np.hypot(ablation_error, retraining_error)
    if verdict == YES:
        return YES if apart < 0.1 else PARTLY
    return NO if (signs < 0).any() else UNDECIDED


def predicted_looks_alike(lower, error):
    """Agrees where on every set the mean rank is lower than by ablation, paired over samples, by
    two standard errors, in part where on one, disagrees where on one it is higher, else
    undecided."""
    return _judged(_signs(lower, error))


def _both(first, second):
    """1 where both signs are 1, -1 where one is -1, else 0."""
    return np.where((first > 0) & (second > 0), 1, np.where((first < 0) | (second < 0), -1, 0))


def metrics_disagree(lower, error):
    """Agrees in part where counterfactual lists by two metrics meet less often than visual lists
    by the same two, paired over samples and mean over pairs of metrics, by two standard errors,
    since none of the paper's networks was tried, disagrees where they meet as surely more often,
    else undecided."""
    verdict = _judged(_signs(lower, error))
    return PARTLY if verdict == YES else verdict


def same_by_other_metrics(
    small, small_error, rise, rise_error, near, near_error, fall, fall_error, by_euclidean
):
    """Agrees in part where by a network that was tried both mean ranks lie on the paper's side of
    0.5 on the smallest set and come nearer to it on the largest, each by two standard errors, since
    none of the paper's networks was tried, disagrees where by a network one goes as surely the
    other way and does not by the Euclidean distance, else undecided."""
    first = _both(_signs(np.subtract(0.5, small), small_error), _signs(rise, rise_error))
    second = _both(_signs(np.subtract(near, 0.5), near_error), _signs(fall, fall_error))
    signs, networks = _both(first, second), ~np.asarray(by_euclidean, dtype=bool)
    if (signs[networks] > 0).any():
        return PARTLY
    against = (signs[networks] < 0).any() and not (signs[~networks] < 0).any()
    return NO if against else UNDECIDED


def prediction_diverges(small, small_error, rise, rise_error):
    """Agrees where in every family the mean rank is below 0.5 on the smallest set and higher on the
    largest, each by two standard errors, in part where in one, disagrees where in one family one
    of the two is as surely the other way round, else undecided."""
    return _judged(_both(_signs(np.subtract(0.5, small), small_error), _signs(rise, rise_error)))


def distance_diverges(small, small_error, fall, fall_error, large):
    """Agrees where in every family the mean rank is above 0.5 on the smallest set and lower on the
    largest, each by two standard errors, and there within 0.1 of 0.5, in part where in one family
    it falls so, disagrees where in one it is as surely the other way round, else undecided."""
    signs = _both(_signs(np.subtract(small, 0.5), small_error), _signs(fall, fall_error))
    verdict = _judged(signs)
    even = np.abs(np.subtract(large, 0.5)) < 0.1
    return PARTLY if verdict == YES and not even.all() else verdict


def nearest_hardly_matters(faster, error):
    """Agrees where the median distance of every family falls faster than one over the root of the
    number of images by two standard errors, in part where that of one does, disagrees where one
    falls as surely more slowly, else undecided."""
    return _judged(_signs(faster, error))


def truly_unattributable(unattributable):
    """Agrees where at least one sample of discrete images is unattributable, else disagrees."""
    return YES if np.any(unattributable) else NO


def never_exactly(zeros, samples):
    """Agrees where fewer than 1% of the samples of continuous images have a radius of zero, else
    disagrees."""
    return YES if zeros < 0.01 * samples else NO


def nearly_unattributable(more, error):
    """Agrees where in every family radii below the tenth percentile of its smallest set are more
    frequent on its largest by two standard errors, in part where in one, disagrees where in one
    they are rarer, else undecided."""
    return _judged(_signs(more, error))


def radius_falls(slope, p, by_size_low, by_size_high, placebo_by_size):
    """Agrees where every family's slope is negative with a p below 0.05 over the number of
    families, in part where one is, but holds for placebos as well where their slope at equal
    exposure lies within the 95% interval of that of radii, disagrees where a slope is as surely
    positive, else undecided."""
    sure = np.less(p, 0.05 / len(np.atleast_1d(p)))
    verdict = _judged(np.where(sure, -np.sign(slope), 0))
    alike = by_size_low <= placebo_by_size <= by_size_high
    return PLACEBO if verdict in (YES, PARTLY) and alike else verdict


def slope_is_theirs(slope, wide, paper_slope, by_exposure_low, by_exposure_high):
    """Agrees where the 95% interval of every family's slope contains the paper's and reaches less
    than 0.1 either way, in part where that of one does, but depends on the length of training where
    the 95% interval of the exponent of exposure leaves out 0, disagrees where one interval leaves
    out the paper's slope, else undecided."""
    if by_exposure_low > 0 or by_exposure_high < 0:
        return LENGTH
    inside = np.abs(np.subtract(slope, paper_slope)) < wide
    return _judged(np.where(~inside, -1, np.where(np.less(wide, 0.1), 1, 0)))


def extrapolates(far_low, far_high):
    """Agrees where the 95% interval of every family's line lies between 3.5 and 14, a factor of 2
    either way, in part where that of one does, disagrees where one lies outside, else
    undecided."""
    low, high = np.atleast_1d(far_low), np.atleast_1d(far_high)
    return _judged(
        np.where((low > 3.5) & (high < 14), 1, np.where((high < 3.5) | (low > 14), -1, 0))
    )


def falls_in_other_metrics(slope, p):
    """Agrees in part where the slope is negative with p < 0.05, since none of the paper's metrics
    was tried, disagrees where it is positive with p < 0.05, else undecided."""
    if p >= 0.05:
        return UNDECIDED
    return PARTLY if slope < 0 else NO


def ranks_predicted(small):
    """Agrees where the lowest median rank correlation of an ensemble is above 0.9, in part where it
    is above 0.5, else disagrees."""
    return YES if small > 0.9 else PARTLY if small > 0.5 else NO


def pixels_predicted(small):
    """Agrees where the lowest median correlation of an ensemble is above 0.9, in part where it is
    above 0.5, else disagrees."""
    return YES if small > 0.9 else PARTLY if small > 0.5 else NO


def few_members(members, sources):
    """Agrees where the members that suffice for the most sources are at most twice their log2, else
    disagrees."""
    return YES if members[-1] <= 2 * np.log2(sources[-1]) else NO


def linear_time(N, n, pixels):
    """Agrees where each measured power lies within 0.15 of 1, in part where within 0.3, else
    disagrees."""
    farthest = max(abs(power - 1) for power in (N, n, pixels))
    return YES if farthest < 0.15 else PARTLY if farthest < 0.3 else NO
