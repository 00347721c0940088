"""Which images belong to a training set whose data sources are people."""

import torch

from ..errors import BadValue


def owned_subset(owners: torch.Tensor, size: int, num_sources: int, owner: str, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Picks ``num_sources`` owners with ``size`` images in all: positions (size,), ascending, and sources (size,).

    ``owners`` (K,) says whose each image is. If everything is asked for, everything is
    taken. Otherwise owners are drawn at random among those with at least
    size // num_sources images. The paper says how many images its 512 celebrities have,
    30.006 on average, but not how they were chosen; this rule gives such numbers, as 30 is
    the most frequent number of images in CelebA and few have more. If those drawn have too few
    images, some make room for the next in line with more; if they have too many, the last
    images of those with most are left out. Sources are numbered in the order of the owners'
    numbers. Raises :class:`BadValue` where it cannot be done.
    """
    people, number, counts = torch.unique(owners, return_inverse=True, return_counts=True)
    if len(people) == num_sources and len(owners) == size:
        return torch.arange(size), number
    floor = size // num_sources
    order = torch.randperm(len(people), generator=rng)
    rich = order[counts[order] >= max(1, floor)].tolist()
    problem = f"no {num_sources:,} of the {len(people):,} {owner}s have {size:,} images between them"
    remedy = "ask for other numbers with recipe.replace(data={'size': ..., 'num_sources': ...})"
    if len(rich) < num_sources:
        raise BadValue(f"{problem}: only {len(rich):,} have {max(1, floor)} or more; {remedy}")
    kept = {k: int(counts[k]) for k in rich[:num_sources]}
    waiting = rich[num_sources:]
    while sum(kept.values()) < size:
        least = min(kept, key=kept.get)
        better = next((k for k in waiting if counts[k] > kept[least]), None)
        if better is None:
            raise BadValue(f"{problem}; {remedy}")
        del kept[least]
        waiting.remove(better)
        kept[better] = int(counts[better])
    for _ in range(sum(kept.values()) - size):
        kept[max(kept, key=kept.get)] -= 1
    taken = torch.cat([(number == k).nonzero().squeeze(1)[:many] for k, many in kept.items()]).sort().values
    numbers = {k: s for s, k in enumerate(sorted(kept))}
    return taken, torch.tensor([numbers[int(k)] for k in number[taken]])
