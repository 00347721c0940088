"""The rules of the claims' verdicts: functions of numbers, whose first sentence stands on the page.

A rule takes numbers by the names that its claim's measure gives them. Of a claim that is tried
on several families of training sets it gets an array for each, with the digits first.
"""

import numpy as np

YES = "agrees"
PARTLY = "agrees in part"
NO = "disagrees"
OPEN = "not run"


def _verdict(agrees: bool, in_part: bool = False) -> str:
    return YES if agrees else PARTLY if in_part else NO


def viable(ratio, paper_low, paper_high):
    """Agrees where the median ratio of the two FIDs lies within the range of the paper's."""
    return _verdict(paper_low <= ratio <= paper_high)


def hurts_then_helps(small, large):
    """Agrees where the ensemble's FID is above the single model's on the smallest set and below it
    on the largest, in part where their ratio is at least smaller on the largest."""
    return _verdict(small > 1 > large, small > large)


def classes_vanish(by_ablation, by_retraining, kept_by_ablation, kept_by_retraining):
    """Agrees where by both methods at least 9 of 10 classes are rarer by two standard errors and
    the shares that they keep differ by less than 10 points, else in part."""
    rarer = np.minimum(by_ablation, by_retraining) >= 9
    alike = np.abs(np.subtract(kept_by_ablation, kept_by_retraining)) < 0.1
    return _verdict((rarer & alike).all(), in_part=True)


def pullovers_rise(rise, error):
    """Agrees where pullovers are more frequent by two standard errors of the difference, disagrees
    where they are rarer by as much, else in part."""
    return _verdict(rise > 2 * error, rise >= -2 * error)


def lists_meet(ablation, retraining, ablation_error, retraining_error, chance):
    """Agrees where the lists of both methods meet the visual ones more often than chance by three
    standard errors."""
    by_ablation = ablation > chance + 3 * ablation_error
    by_retraining = retraining > chance + 3 * retraining_error
    return _verdict(by_ablation and by_retraining)


def lists_comparable(apart):
    """Agrees where the two shares are less than two standard errors apart."""
    return _verdict(apart < 2)


def predicted_lists(ratio):
    """Agrees where the lists meet more than 2 times as often, in part where more than 1.2 times."""
    return _verdict(ratio > 2, ratio > 1.2)


def looks_alike(ablation, retraining):
    """Agrees where both mean ranks are below 0.45 and less than 0.1 apart, in part where only the
    first holds."""
    alike_to_sample = max(ablation, retraining) < 0.45
    return _verdict(alike_to_sample and abs(ablation - retraining) < 0.1, alike_to_sample)


def predicted_looks_alike(differential, ablation):
    """Agrees where the median rank is less than half of that by ablation, in part where it is only
    smaller."""
    return _verdict(differential < ablation / 2, differential < ablation)


def prediction_diverges(small, trend):
    """Agrees where the median rank on each family's smallest set is below 0.25 and the digits' go
    along with size (Spearman's correlation above 0.5), in part where one family's is and the
    correlation is above 0."""
    alike = np.less(small, 0.25)
    return _verdict(alike.all() and trend[0] > 0.5, alike.any() and trend[0] > 0)


def distance_diverges(small, large):
    """Agrees where the mean rank of every family is above 0.6 on its smallest set and lower on its
    largest, the digits' within 0.1 of 0.5, in part where that of one family falls from above
    0.6."""
    fell = np.greater(small, 0.6) & np.less(large, small)
    return _verdict(fell.all() and abs(large[0] - 0.5) < 0.1, fell.any())


def nearest_hardly_matters(small, large, small_set, large_set):
    """Agrees where the median distance of every family falls faster than one over the root of the
    number of images (half as far with four times as many), in part where that of one does."""
    faster = np.divide(large, small) < np.divide(large_set, small_set) ** -0.5
    return _verdict(faster.all(), faster.any())


def truly_unattributable(unattributable):
    """Agrees where at least one sample of discrete images is unattributable."""
    return _verdict(np.any(unattributable))


def never_exactly(zeros, samples):
    """Agrees where fewer than 1% of the samples of continuous images have a radius of zero."""
    return _verdict(zeros < 0.01 * samples)


def nearly_unattributable(small, large):
    """Agrees where in every family radii below its median are more frequent on the largest set than
    on the smallest, in part where in one."""
    more = np.greater(large, small)
    return _verdict(more.all(), more.any())


def radius_falls(slope, p):
    """Agrees where the fitted slope of every family is negative and one has p < 0.05, in part where
    one slope is negative."""
    negative = np.less(slope, 0)
    return _verdict(negative.all() and min(p) < 0.05, negative.any())


def slope_is_theirs(slope, wide, paper_slope):
    """Agrees where the 95% interval of every family's slope contains the paper's slope, in part
    where that of one does."""
    near = np.abs(np.subtract(slope, paper_slope)) < wide
    return _verdict(near.all(), near.any())


def extrapolates(far):
    """Agrees where the line of every family gives a radius between 3.5 and 14, a factor of 2 either
    way, in part where that of one does."""
    near = np.abs(np.log2(np.divide(far, 7))) < 1
    return _verdict(near.all(), near.any())


def falls_in_other_metrics(slope):
    """Agrees in part where the slope is negative, since none of the paper's metrics was tried, else
    disagrees."""
    return _verdict(False, in_part=slope < 0)


def ranks_predicted(small):
    """Agrees where the lowest median rank correlation of an ensemble is above 0.5, else in part."""
    return _verdict(small > 0.5, in_part=True)


def pixels_predicted(small):
    """Agrees where the lowest median correlation of an ensemble is above 0.9, else in part."""
    return _verdict(small > 0.9, in_part=True)


def few_members(members, sources):
    """Agrees where the members that suffice for the most sources are at most twice their log2."""
    return _verdict(members[-1] <= 2 * np.log2(sources[-1]))


def linear_time(N, n, pixels):
    """Agrees where each measured power lies within 0.15 of 1, else in part."""
    return _verdict(max(abs(power - 1) for power in (N, n, pixels)) < 0.15, in_part=True)
