"""The derivative of a loss after training in the weight of each source, through all of training.

It is exact, and what a very small change of a weight does; taking a source out is a large one. On
a tiny member it foretells training again up to changes of a thousandth, perhaps because Adam's
first steps have the size of the learning rate whatever that of the gradient, and jump where its
sign changes. MAGIC's authors ask for training that is smooth; that of members is what it is. And
it is of one training with its chance, where most truths are of models that each had their own.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from abc_lib.ground.errors import BadValue
from abc_lib.images.training_set import TrainingSet, training_set
from abc_lib.method.network import NoisePredictor
from abc_lib.method.recipe import Recipe
from abc_lib.training.batches import learning_rate, seeded_dropout
from abc_lib.training.members import Block, network_of
from abc_lib.yardstick.methods.base import Method
from abc_lib.yardstick.tasks import Task

__all__ = ["AT_ONCE", "METHODS", "WORK", "Unrolled", "unroll"]

AT_ONCE = 32
"""sources whose derivatives go through a step side by side"""
WORK = 2**16
"""steps times sources that are unrolled at most: the last steps of longer trainings, as if weights
changed only there. Where images are seen 500 times these are all 1000 steps of the 30 sources of
the first member of digits_64, four minutes of one core, and 528 of 4000 of the 124 of digits_256,
nine minutes; all of those would take more than an hour. Measured on a Xeon, one thread.
"""


class Unrolled:
    """Parameters in training by Adam, and their derivatives in the weights of M sources.

    ``theta`` (P,) are the parameters, ``first`` and ``second`` (P,) Adam's averages after ``done``
    steps, by default before any; what came before these steps is taken not to depend on weights.
    ``slopes`` (M, P) are the derivatives of ``theta`` where all weights are one. This is MAGIC
    (Ilyas and Engstrom, 2025), forwards: exact, as derivatives of Adam's own steps are.
    """

    def __init__(
        self,
        theta: torch.Tensor,
        sources: int,
        first: torch.Tensor | None = None,
        second: torch.Tensor | None = None,
        done: int = 0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ):
        self.theta, self.done, self.betas, self.eps = theta.clone(), done, betas, eps
        self.first, self.second = (
            torch.zeros_like(theta) if each is None else each.clone() for each in (first, second)
        )
        self.slopes, self._of_first, self._of_second = theta.new_zeros(3, sources, len(theta))

    def step(
        self, errors: Callable[[torch.Tensor], torch.Tensor], shares: torch.Tensor, rate: float
    ) -> None:
        """One step of Adam at a learning ``rate`` on the mean of a minibatch's ``errors``.

        ``errors`` gives those of B images (B,) from parameters (P,), differentiable twice;
        ``shares`` (M, B) says how the weight in the mean of each image grows with each source's: 1
        where it is the source's own.
        """
        weights = self.theta.new_ones(shares.shape[1])

        def gradient(theta: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
            return grad(lambda at: (errors(at) * weights).mean())(theta)

        def slope(moved: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
            return jvp(gradient, (self.theta, weights), (moved, share))[1]

        # The fused attention has no rule for a batch of derivatives; plain attention has.
        with sdpa_kernel(SDPBackend.MATH):
            g = gradient(self.theta, weights)
            of_g = vmap(slope, randomness="same", chunk_size=AT_ONCE)(
                self.slopes, shares.to(self.theta)
            )
        self._adam(g, of_g, rate)

    def _adam(self, g: torch.Tensor, of_g: torch.Tensor, rate: float) -> None:
        (a, b), self.done = self.betas, self.done + 1
        of_mean, of_square = 1 - a**self.done, 1 - b**self.done
        self.first = a * self.first + (1 - a) * g
        self.second = b * self.second + (1 - b) * g**2
        self._of_first.mul_(a).add_(of_g, alpha=1 - a)
        self._of_second.mul_(b).addcmul_(of_g, g, value=2 * (1 - b))
        root = (self.second / of_square).sqrt()
        scale = rate / of_mean / (root + self.eps)
        step = scale * self.first
        # A parameter that never had a gradient has not moved, and a root has no derivative at 0.
        by_root = torch.where(root > 0, step / (root + self.eps) / (2 * of_square * root), 0)
        self.theta = self.theta - step
        self.slopes.addcmul_(self._of_first, scale, value=-1)
        self.slopes.addcmul_(self._of_second, by_root)


def unroll(
    recipe: Recipe, member: int, images: TrainingSet, last: int | None = None
) -> tuple[NoisePredictor, np.ndarray, torch.Tensor]:
    """A member trained again, its sources (M,), and its parameters' derivatives in their weights.

    A source's weight is that of its images' squared errors in the mean of each minibatch.
    ``images`` are the member's own; derivatives (M, P) are through the ``last`` steps, by default
    all. The member is the one that :func:`abc_lib.training.members.train_members` makes, up to the
    rounding of blocks and of what is stored.
    """
    if recipe.training.average:
        raise BadValue(
            f"members of {recipe.label} are running averages of their parameters, which unrolling "
            "does not follow; leave the method out with --skip unrolled"
        )
    block = Block(recipe, [member], [images], "cpu")
    names, shapes = zip(*((k, v.shape) for k, v in block.network.named_parameters()), strict=True)
    sizes = [shape.numel() for shape in shapes]
    sources, owner = images.sources.unique(return_inverse=True)
    begin = 0 if last is None else max(0, block.steps - last)
    for k in range(begin):
        block.step(k)

    def flat(values) -> torch.Tensor:
        return torch.cat([each.detach().flatten() for each in values])

    def parts(theta: torch.Tensor) -> list[torch.Tensor]:
        return [each.view(s) for each, s in zip(theta.split(sizes), shapes, strict=True)]

    averages = ()
    if begin:
        adam = [block.optimiser.state[value] for value in block.network.parameters()]
        averages = (flat(each[name] for each in adam) for name in ("exp_avg", "exp_avg_sq"))
    model = Unrolled(flat(block.network.parameters()), len(sources), *averages, done=begin)
    for k in range(begin, block.steps):
        batch = block.minibatch(k)

        def errors(theta: torch.Tensor, batch=batch) -> torch.Tensor:
            at = dict(zip(names, parts(theta), strict=True))
            with seeded_dropout(recipe, block.device, batch.dropout_seed):
                out = functional_call(block.network, at, (batch.states.flatten(1, 2), batch.times))
            return block.errors(out, batch)[:, 0]

        owners = owner[block.batches[0].indices(k)]
        model.step(errors, owners == torch.arange(len(sources))[:, None], learning_rate(recipe, k))
    with torch.no_grad():
        for value, new in zip(block.network.parameters(), parts(model.theta), strict=True):
            value.copy_(new)
    network = network_of(recipe, {name: each[0] for name, each in block.parameters().items()})
    return network.eval(), sources.numpy(), model.slopes


def _unrolled(task: Task) -> np.ndarray:
    seen = task.codebooks[0].split(0)
    images = training_set(task.recipe.data).of_sources(seen)
    network, sources, slopes = unroll(task.recipe, 0, images, WORK // len(seen))
    gradients = task.query_gradients(network)
    scores = np.zeros(task.shape)
    scores[:, sources] = -(gradients.double() @ slopes.double().T).numpy()
    return scores


METHODS = (
    Method(
        "unrolled",
        "MAGIC (Ilyas and Engstrom, 2025), forwards, first member only; of long trainings of many "
        "sources the last steps",
        "training again",
        _unrolled,
    ),
)
