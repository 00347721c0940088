"""Dual numbers: one primal and the n tangents that ride on it (forward-mode differentiation, 2.4).

A :class:`Dual` can be put into a network instead of a tensor. Every operation then
computes the primal once and all tangents beside it, where PyTorch's own dual tensors
want a copy of the primal for every tangent. The operations that a U-Net spends its
time in have rules of their own here; any other one goes through ``torch.func.jvp``
under ``vmap``, which is correct for whatever PyTorch can differentiate forward.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.utils._pytree import tree_flatten, tree_unflatten


class Dual:
    """A tensor ``primal`` (...) with ``tangents`` (n, ...), one for each direction.

    ``pending`` is a factor of the primal's shape that the tangents still have to be
    multiplied by: a chain of elementwise functions collects one, so that the n times
    larger tensor is only gone through once.
    """

    def __init__(self, primal: torch.Tensor, tangents: torch.Tensor, pending: torch.Tensor | None = None):
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
        return Dual(primal, self._tangents, factor if self._pending is None else self._pending * factor)

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self.primal, name)
        if not callable(found):
            return found
        function = getattr(torch.Tensor, name)
        return lambda *arguments, **options: _apply(function, (self, *arguments), options)

    @classmethod
    def __torch_function__(cls, function, types, arguments=(), options=None):
        return _apply(function, arguments, options or {})

    def __len__(self) -> int:
        return len(self.primal)


def _operator(name: str) -> None:
    function = getattr(torch.Tensor, name)
    setattr(Dual, name, lambda *arguments: _apply(function, arguments, {}))


for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "neg", "pow", "matmul", "getitem"):
    _operator(f"__{_name}__")

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
    """Any operation: its primal once, its tangents by ``jvp`` under ``vmap``."""
    flat, structure = tree_flatten((arguments, options))
    duals = [k for k, value in enumerate(flat) if isinstance(value, Dual)]

    def plain(*values: torch.Tensor):
        filled = list(flat)
        for k, value in zip(duals, values):
            filled[k] = value
        each, named = tree_unflatten(filled, structure)
        return function(*each, **named)

    primals = tuple(flat[k].primal for k in duals)

    def along(*directions: torch.Tensor):
        return torch.func.jvp(plain, primals, directions)

    value = plain(*primals)
    values, shape = tree_flatten(value)
    if not all(isinstance(each, torch.Tensor) and each.is_floating_point() for each in values):
        return value  # a size, a type, an index: nothing to differentiate
    _, moved = torch.func.vmap(along, out_dims=(None, 0))(*(flat[k].tangents for k in duals))
    return tree_unflatten([Dual(a, b) for a, b in zip(values, tree_flatten(moved)[0])], shape)


def _together(function: Callable[[torch.Tensor], torch.Tensor], tangents: torch.Tensor) -> torch.Tensor:
    """A linear function of batches (B, ...) on n batches as one of n * B."""
    return function(tangents.flatten(0, 1)).unflatten(0, tangents.shape[:2])


@_rule(torch.conv2d, F.conv2d)
def _conv2d(x, weight, bias=None, *rest, **options):
    if not isinstance(x, Dual) or isinstance(weight, Dual):
        return NotImplemented
    linear = lambda v: torch.conv2d(v, weight, None, *rest, **options)  # noqa: E731
    return Dual(torch.conv2d(x.primal, weight, bias, *rest, **options), _together(linear, x.tangents))


@_rule(F.linear)
def _linear(x, weight, bias=None):
    if not isinstance(x, Dual) or isinstance(weight, Dual):
        return NotImplemented
    return Dual(F.linear(x.primal, weight, bias), F.linear(x.tangents, weight))


@_rule(F.group_norm)
def _group_norm(x, num_groups, weight=None, bias=None, eps=1e-5):
    """With xhat the normalised input, d xhat = (dx - mean(dx) - xhat mean(xhat dx)) / sd."""
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
    factor = inverse.reshape(batch, num_groups, 1).expand(-1, -1, channels // num_groups).reshape(batch, *shape[1:])
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


@_rule(F.dropout)
def _dropout(x, p=0.5, training=True, inplace=False):
    return NotImplemented if training and p > 0 else x


@_rule(torch.Tensor.__add__, torch.Tensor.__radd__, torch.Tensor.add, torch.add)
def _add(a, b):
    if isinstance(a, Dual) and isinstance(b, Dual):
        if a.primal.shape != b.primal.shape:
            return NotImplemented
        return Dual(a.primal + b.primal, a.tangents + b.tangents)
    dual, other = (a, b) if isinstance(a, Dual) else (b, a)
    value = dual.primal + other
    # a plain summand that makes the result larger would have to repeat the tangents
    return Dual(value, dual._tangents, dual._pending) if value.shape == dual.primal.shape else NotImplemented


@_rule(torch.Tensor.__sub__, torch.Tensor.sub, torch.sub)
def _sub(a, b):
    return _add(a, b * -1)


@_rule(torch.Tensor.__rsub__)
def _rsub(a, b):
    return _add(a * -1, b)


@_rule(torch.Tensor.__mul__, torch.Tensor.__rmul__, torch.Tensor.mul, torch.mul)
def _mul(a, b):
    if isinstance(a, Dual) and isinstance(b, Dual):
        return NotImplemented
    dual, other = (a, b) if isinstance(a, Dual) else (b, a)
    value = dual.primal * other
    return dual.scaled(value, torch.as_tensor(other).to(value)) if value.shape == dual.primal.shape else NotImplemented


@_rule(torch.Tensor.__truediv__, torch.Tensor.div, torch.div)
def _div(a, b):
    if not isinstance(b, (int, float)):
        return NotImplemented
    return a if b == 1 else _mul(a, 1 / b)


@_rule(torch.cat)
def _cat(tensors, dim=0):
    if not all(isinstance(each, Dual) for each in tensors) or dim < 0:
        return NotImplemented
    return Dual(torch.cat([each.primal for each in tensors], dim), torch.cat([each.tangents for each in tensors], dim + 1))




def _batched_linear(function: Callable) -> Callable:
    """The rule of a linear function of batches: n batches go through it as one."""

    def rule(x, *arguments, **options):
        linear = lambda v: function(v, *arguments, **options)  # noqa: E731
        return Dual(linear(x.primal), _together(linear, x.tangents))

    return rule


def _reshaping(function: Callable) -> Callable:
    """The rule of a function that only arranges numbers anew, in the same order."""

    def rule(x, *arguments, **options):
        value = function(x.primal, *arguments, **options)
        return Dual(value, x.tangents.reshape(len(x.tangents), *value.shape))

    return rule


for _function in (F.interpolate, F.pixel_shuffle, F.pixel_unshuffle, F.pad):
    _RULES[_function] = _batched_linear(_function)
for _function in (torch.Tensor.view, torch.Tensor.reshape, torch.reshape, torch.Tensor.unsqueeze, torch.Tensor.flatten):
    _RULES[_function] = _reshaping(_function)


@_rule(torch.Tensor.contiguous)
def _contiguous(x, *arguments, **options):
    return Dual(x.primal.contiguous(*arguments, **options), x._tangents, x._pending)


@_rule(torch.Tensor.transpose, torch.transpose)
def _transpose(x, a, b):
    dims = x.primal.ndim
    return Dual(x.primal.transpose(a, b), x.tangents.transpose(a % dims + 1, b % dims + 1))


@_rule(torch.Tensor.permute, torch.permute)
def _permute(x, *dims):
    dims = dims[0] if isinstance(dims[0], (tuple, list)) else dims
    return Dual(x.primal.permute(*dims), x.tangents.permute(0, *(d % x.primal.ndim + 1 for d in dims)))


@_rule(torch.Tensor.to, torch.Tensor.float)
def _to(x, *arguments, **options):
    if any(isinstance(each, Dual) for each in arguments):
        return NotImplemented
    value = x.primal.to(*arguments, **options) if arguments or options else x.primal.float()
    return Dual(value, x.tangents.to(value.device, value.dtype))


@_rule(torch.bmm, torch.matmul, torch.Tensor.__matmul__)
def _matmul(a, b):
    """d(AB) = dA B + A dB."""
    moved = []
    if isinstance(a, Dual):
        moved.append(torch.matmul(a.tangents, b.primal if isinstance(b, Dual) else b))
    if isinstance(b, Dual):
        moved.append(torch.matmul(a.primal if isinstance(a, Dual) else a, b.tangents))
    left, right = (each.primal if isinstance(each, Dual) else each for each in (a, b))
    return Dual(torch.matmul(left, right), sum(moved))


@_rule(torch.Tensor.softmax, torch.softmax, F.softmax)
def _softmax(x, dim, *arguments, **options):
    value = torch.softmax(x.primal, dim)
    moved = x.tangents * value
    return Dual(value, moved - value * moved.sum(dim % value.ndim + 1, keepdim=True))


@_rule(F.scaled_dot_product_attention)
def _attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, **options):
    """Plain attention, softmax(Q K' / sqrt(d)) V: PyTorch cannot differentiate its fused kernels forward."""
    if attn_mask is not None or dropout_p or is_causal or options.get("enable_gqa"):
        return NotImplemented
    scores = _mul(_matmul(query, key.transpose(-2, -1)), query.shape[-1] ** -0.5 if scale is None else scale)
    return _matmul(_softmax(scores, -1), value)


@_rule(torch.Tensor.clamp, torch.clamp)
def _clamp(x, low=None, high=None, **options):
    """At the bounds the derivative is that of the inside, as PyTorch has it."""
    value = torch.clamp(x.primal, low, high, **options)
    return x.scaled(value, (value == x.primal).to(value))
