"""Dual numbers: one primal and the n tangents that ride on it (forward-mode differentiation, 2.4).

A :class:`Dual` can be put into a network instead of a tensor. Every operation then
computes the primal once and all tangents beside it, where PyTorch's own dual tensors
want a copy of the primal for every tangent. The operations that a U-Net spends its
time in have rules of their own here; any other one goes through ``torch.func.jvp``
under ``vmap``, which is correct for whatever PyTorch can differentiate forward.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_flatten, tree_unflatten


def _operator(name: str) -> Callable[..., Any]:
    function = getattr(torch.Tensor, name)
    return lambda *arguments: _apply(function, arguments, {})


class Dual:
    """A tensor ``primal`` (...) with ``tangents`` (n, ...), one for each direction.

    ``pending`` is a factor of the primal's shape that the tangents still have to be
    multiplied by: a chain of elementwise functions collects one, so that the n times
    larger tensor is only gone through once.
    """

    def __init__(
        self, primal: torch.Tensor, tangents: torch.Tensor, pending: torch.Tensor | None = None
    ):
        self.primal = primal
        self._tangents = tangents
        self._pending = pending

    @property
    def tangents(self) -> torch.Tensor:
        """The n tangents, (n, ...)."""
        if self._pending is not None:
            self._tangents = self._tangents * self._pending
            self._pending = None
        return self._tangents

    def scaled(self, primal: torch.Tensor, factor: torch.Tensor) -> "Dual":
        """The dual of an elementwise function with value ``primal`` and derivative ``factor``."""
        return Dual(
            primal, self._tangents, factor if self._pending is None else self._pending * factor
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name.endswith("_"):
            raise TypeError(
                f"a dual number is a value and cannot be changed in place; use {name.rstrip('_')} "
                f"instead of {name}"
            )
        value = getattr(self.primal, name)
        if isinstance(value, torch.Tensor):  # .T, .mT and the like are operations too
            return _by_jvp(getattr, (self, name), {})
        if not callable(value):
            return value
        function = getattr(torch.Tensor, name)
        return lambda *arguments, **options: _apply(function, (self, *arguments), options)

    @classmethod
    def __torch_function__(cls, function, types, arguments=(), options=None):
        return _apply(function, arguments, options or {})

    def __len__(self) -> int:
        return len(self.primal)

    __add__ = _operator("__add__")
    __radd__ = _operator("__radd__")
    __sub__ = _operator("__sub__")
    __rsub__ = _operator("__rsub__")
    __mul__ = _operator("__mul__")
    __rmul__ = _operator("__rmul__")
    __truediv__ = _operator("__truediv__")
    __rtruediv__ = _operator("__rtruediv__")
    __neg__ = _operator("__neg__")
    __abs__ = _operator("__abs__")
    __pow__ = _operator("__pow__")
    __rpow__ = _operator("__rpow__")
    __matmul__ = _operator("__matmul__")
    __getitem__ = _operator("__getitem__")
    __lt__ = _operator("__lt__")
    __le__ = _operator("__le__")
    __gt__ = _operator("__gt__")
    __ge__ = _operator("__ge__")
    __eq__ = _operator("__eq__")
    __ne__ = _operator("__ne__")
    __hash__ = object.__hash__  # which __eq__ would take away


_RULES: dict[Callable, Callable] = {}


def _rule(*functions: Callable):
    def register(rule):
        _RULES.update(dict.fromkeys(functions, rule))
        return rule

    return register


def _apply(function: Callable, arguments: tuple, options: dict):
    """One operation on values of which some are dual."""
    rule = _RULES.get(function)
    if rule is not None:
        result = rule(*arguments, **options)
        if result is not NotImplemented:
            return result
    return _by_jvp(function, arguments, options)


def _by_jvp(function: Callable, arguments: tuple, options: dict):
    """Any operation, its tangents by ``jvp`` under ``vmap``; of several results those that are
    whole numbers stay plain.
    """
    flat, structure = tree_flatten((arguments, options))
    duals = [k for k, value in enumerate(flat) if isinstance(value, Dual)]

    def plain(*values: torch.Tensor):
        filled = list(flat)
        for k, value in zip(duals, values):
            filled[k] = value
        each, named = tree_unflatten(filled, structure)
        return function(*each, **named)

    primals = tuple(flat[k].primal for k in duals)

    value = plain(*primals)
    values, shape = tree_flatten(value)
    smooth = [
        k
        for k, each in enumerate(values)
        if isinstance(each, torch.Tensor) and each.is_floating_point()
    ]
    if not smooth:
        return value  # a size, a type, an index: nothing to differentiate

    def along(*directions: torch.Tensor):
        return torch.func.jvp(
            lambda *each: [tree_flatten(plain(*each))[0][k] for k in smooth], primals, directions
        )[1]

    for k, moved in zip(smooth, torch.func.vmap(along)(*(flat[k].tangents for k in duals))):
        values[k] = Dual(values[k], moved)
    return tree_unflatten(values, shape)


def _only_first(*arguments) -> bool:
    """Whether the first of an operation's arguments, and no other one, is dual."""
    return [isinstance(each, Dual) for each in arguments] == [True] + [False] * (len(arguments) - 1)


def _together(
    function: Callable[[torch.Tensor], torch.Tensor], tangents: torch.Tensor
) -> torch.Tensor:
    """A linear function of batches (B, ...) on n batches as one of n * B."""
    return function(tangents.flatten(0, 1)).unflatten(0, tangents.shape[:2])


@_rule(torch.conv2d, F.conv2d)
def _conv2d(x, weight, bias=None, *rest, **options):
    if not _only_first(x, weight, bias) or x.primal.ndim != 4:
        return NotImplemented
    linear = lambda v: torch.conv2d(v, weight, None, *rest, **options)  # noqa: E731
    if x._pending is not None and not torch.is_grad_enabled():
        # The tangents are gone through for their factor anyway: written beside the primal, one call
        # takes both.
        joint = x.primal.new_empty(1 + len(x._tangents), *x.primal.shape)
        joint[0] = x.primal
        torch.mul(x._tangents, x._pending, out=joint[1:])
        out = _together(linear, joint)
        return Dual(out[0] if bias is None else out[0] + bias[:, None, None], out[1:])
    return Dual(
        torch.conv2d(x.primal, weight, bias, *rest, **options), _together(linear, x.tangents)
    )


@_rule(torch.conv_transpose2d, F.conv_transpose2d)
def _conv_transpose2d(x, weight, bias=None, *rest, **options):
    if not _only_first(x, weight, bias) or x.primal.ndim != 4:
        return NotImplemented
    linear = lambda v: torch.conv_transpose2d(v, weight, None, *rest, **options)  # noqa: E731
    return Dual(
        torch.conv_transpose2d(x.primal, weight, bias, *rest, **options),
        _together(linear, x.tangents),
    )


@_rule(F.linear)
def _linear(x, weight, bias=None):
    if not _only_first(x, weight, bias):
        return NotImplemented
    return Dual(F.linear(x.primal, weight, bias), F.linear(x.tangents, weight))


@_rule(F.group_norm)
def _group_norm(x, num_groups, weight=None, bias=None, eps=1e-5):
    """With xhat the normalised input, d xhat = (dx - mean(dx) - xhat mean(xhat dx)) / sd."""
    if not _only_first(x, weight, bias):
        return NotImplemented
    batch, channels = x.primal.shape[:2]
    n = len(x.tangents)
    grouped = x.primal.reshape(batch * num_groups, -1)
    variance, mean = torch.var_mean(grouped, dim=1, correction=0, keepdim=True)
    inverse = (variance + eps).rsqrt()
    normal = (grouped - mean) * inverse
    moved = x.tangents.reshape(n, batch * num_groups, -1).transpose(0, 1)  # (B G, n, L)
    basis = torch.stack([torch.ones_like(normal), normal], dim=1)  # (B G, 2, L)
    means = torch.bmm(moved, basis.transpose(1, 2)) / normal.shape[1]
    moved = torch.baddbmm(moved, means, basis, alpha=-1).transpose(0, 1).reshape(n, *x.primal.shape)
    shape = (1, channels, *(1,) * (x.primal.ndim - 2))
    factor = (
        inverse.reshape(batch, num_groups, 1)
        .expand(-1, -1, channels // num_groups)
        .reshape(batch, *shape[1:])
    )
    value = normal.reshape(x.primal.shape)
    if weight is not None:
        factor, value = factor * weight.reshape(shape), value * weight.reshape(shape)
    if bias is not None:
        value = value + bias.reshape(shape)
    return Dual(value, moved, factor)


@_rule(F.silu)
def _silu(x, inplace=False):
    sigmoid = torch.sigmoid(x.primal)
    value = x.primal * sigmoid
    return x.scaled(value, sigmoid + value * (1 - sigmoid))


@_rule(F.relu, torch.relu)
def _relu(x, inplace=False):
    value = torch.relu(x.primal)
    return x.scaled(value, (x.primal > 0).to(value))


@_rule(F.dropout)
def _dropout(x, p=0.5, training=True, inplace=False):
    return NotImplemented if training and p > 0 else x


@_rule(torch.Tensor.__add__, torch.Tensor.__radd__, torch.Tensor.add, torch.add)
def _add(a, b, **options):
    if options:
        return NotImplemented
    if isinstance(a, Dual) and isinstance(b, Dual):
        if a.primal.shape != b.primal.shape:
            return NotImplemented
        return Dual(a.primal + b.primal, a.tangents + b.tangents)
    dual, other = (a, b) if isinstance(a, Dual) else (b, a)
    value = dual.primal + other
    # a plain summand that makes the result larger would have to repeat the tangents
    return (
        Dual(value, dual._tangents, dual._pending)
        if value.shape == dual.primal.shape
        else NotImplemented
    )


@_rule(torch.Tensor.__sub__, torch.Tensor.sub, torch.sub)
def _sub(a, b, **options):
    return NotImplemented if options else _add(a, b * -1)


@_rule(torch.Tensor.__rsub__)
def _rsub(a, b):
    return _add(a * -1, b)


@_rule(torch.Tensor.__mul__, torch.Tensor.__rmul__, torch.Tensor.mul, torch.mul)
def _mul(a, b, **options):
    if options or (isinstance(a, Dual) and isinstance(b, Dual)):
        return NotImplemented
    dual, other = (a, b) if isinstance(a, Dual) else (b, a)
    value = dual.primal * other
    if value.shape != dual.primal.shape:
        return NotImplemented
    # in the result's precision from the start: by itself a Python number would become float32
    return dual.scaled(value, torch.as_tensor(other, dtype=value.dtype, device=value.device))


@_rule(torch.Tensor.__truediv__, torch.Tensor.div, torch.div)
def _div(a, b, **options):
    if options or not isinstance(b, (int, float)) or b == 0:
        return NotImplemented
    return a if b == 1 else _mul(a, 1 / b)


@_rule(torch.cat)
def _cat(tensors, dim=0):
    if not all(isinstance(each, Dual) for each in tensors) or dim < 0:
        return NotImplemented
    return Dual(
        torch.cat([each.primal for each in tensors], dim),
        torch.cat([each.tangents for each in tensors], dim + 1),
    )


@_rule(F.interpolate)
def _interpolate(x, *arguments, **options):
    linear = lambda v: F.interpolate(v, *arguments, **options)  # noqa: E731
    return Dual(linear(x.primal), _together(linear, x.tangents))


def _of_images(function: Callable) -> Callable:
    """The rule of a linear function that takes images with any leading dimensions."""

    def rule(x, *arguments, **options):
        return Dual(
            function(x.primal, *arguments, **options), function(x.tangents, *arguments, **options)
        )

    return rule


def _reshaping(function: Callable) -> Callable:
    """The rule of a function that only arranges numbers anew, in the same order."""

    def rule(x, *arguments, **options):
        value = function(x.primal, *arguments, **options)
        return Dual(value, x.tangents.reshape(len(x.tangents), *value.shape))

    return rule


for _function in (F.pixel_shuffle, F.pixel_unshuffle):
    _RULES[_function] = _of_images(_function)
for _function in (
    torch.Tensor.view,
    torch.Tensor.reshape,
    torch.reshape,
    torch.Tensor.unsqueeze,
    torch.Tensor.flatten,
):
    _RULES[_function] = _reshaping(_function)


@_rule(torch.Tensor.contiguous)
def _contiguous(x, *arguments, **options):
    return Dual(x.primal.contiguous(*arguments, **options), x._tangents, x._pending)


@_rule(torch.Tensor.transpose, torch.transpose)
def _transpose(x, dim0, dim1):
    dims = x.primal.ndim
    return Dual(
        x.primal.transpose(dim0, dim1), x.tangents.transpose(dim0 % dims + 1, dim1 % dims + 1)
    )


@_rule(torch.Tensor.permute, torch.permute)
def _permute(x, *dims, **options):
    if options:
        return NotImplemented
    dims = dims[0] if isinstance(dims[0], (tuple, list)) else dims
    return Dual(
        x.primal.permute(*dims), x.tangents.permute(0, *(d % x.primal.ndim + 1 for d in dims))
    )


@_rule(torch.Tensor.to, torch.Tensor.float)
def _to(x, *arguments, **options):
    if any(isinstance(each, Dual) for each in arguments):
        return NotImplemented
    value = x.primal.to(*arguments, **options) if arguments or options else x.primal.float()
    if not value.is_floating_point():
        return value
    return Dual(value, x.tangents.to(value.device, value.dtype))


@_rule(torch.bmm, torch.matmul, torch.Tensor.__matmul__)
def _matmul(a, b, **options):
    """d(AB) = dA B + A dB."""
    # with fewer dimensions than the other, the tangents' first one would be taken for one of the
    # batch
    if options or a.ndim != b.ndim or a.ndim < 2:
        return NotImplemented
    moved = []
    if isinstance(a, Dual):
        moved.append(torch.matmul(a.tangents, b.primal if isinstance(b, Dual) else b))
    if isinstance(b, Dual):
        moved.append(torch.matmul(a.primal if isinstance(a, Dual) else a, b.tangents))
    left, right = (each.primal if isinstance(each, Dual) else each for each in (a, b))
    return Dual(torch.matmul(left, right), sum(moved))


@_rule(torch.Tensor.softmax, torch.softmax, F.softmax)
def _softmax(x, dim=None, dtype=None, _stacklevel=3):
    if dim is None or dtype is not None:
        return NotImplemented
    value = torch.softmax(x.primal, dim)
    moved = x.tangents * value
    return Dual(value, moved - value * moved.sum(dim % value.ndim + 1, keepdim=True))


@_rule(F.scaled_dot_product_attention)
def _attention(
    query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, **options
):
    """Plain attention, softmax(Q K' / sqrt(d)) V: PyTorch cannot differentiate its fused kernels
    forward.
    """
    plain = not (attn_mask is not None or dropout_p or is_causal or options.get("enable_gqa"))
    if not plain or not all(
        isinstance(each, Dual) and each.ndim == value.ndim for each in (query, key, value)
    ):
        with sdpa_kernel(SDPBackend.MATH):
            return _by_jvp(
                F.scaled_dot_product_attention,
                (query, key, value, attn_mask, dropout_p, is_causal),
                {"scale": scale} | options,
            )
    scores = _mul(
        _matmul(query, key.transpose(-2, -1)), query.shape[-1] ** -0.5 if scale is None else scale
    )
    return _matmul(_softmax(scores, -1), value)


@_rule(torch.Tensor.clamp, torch.clamp)
def _clamp(x, min=None, max=None):
    """At the bounds the derivative is that of the inside (PyTorch's versions differ there): what
    only rounds to a bound still moves.
    """
    if any(isinstance(bound, (torch.Tensor, Dual)) for bound in (min, max)):
        return NotImplemented
    value = torch.clamp(x.primal, min, max)
    return x.scaled(value, (value == x.primal).to(value))
