"""Several networks of one recipe as one network with a model axis."""

import torch
import torch.nn as nn
import torch.nn.functional as F

from abc_lib.method.network import NoisePredictor, noise_shares


class StackedNetwork(nn.Module):
    """``n`` networks of one recipe as one: every parameter has a leading axis (n, ...).

    ``forward(x, t)`` takes states (B, n * C, H, W), the models' channels one after
    another, and time steps (B,) or a scalar that all models share, or (B, n), one a model; it
    returns the noise that each predicts in its own channels, (B, n * C, H, W). It computes what
    ``n`` :class:`NoisePredictor` compute one by one, up to rounding. Dropout, where a recipe
    has it, drops the same units in all models.
    """

    def __init__(self, net: NoisePredictor, n: int):
        super().__init__()
        self.net, self.n = net, n
        # diffusers' modules stay as the place where parameters are kept, under their own names.
        for module in net.modules():
            for name, value in module._parameters.items():
                if value is not None:
                    module._parameters[name] = nn.Parameter(
                        value.detach().expand(n, *value.shape).clone()
                    )

    def load(self, parameters: dict[str, torch.Tensor]) -> "StackedNetwork":
        """Sets every parameter from tensors (n, ...) of any floating type; returns itself."""
        with torch.no_grad():
            for name, value in self.net.named_parameters():
                value.copy_(parameters[name])
        return self

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        """(B, n * C, ...) as (B, n, C, ...)."""
        return x.unflatten(1, (self.n, -1))

    def _product(self, weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """weight (n, O, I) on the channels of x (B, n * I, H, W), as one large product a model: (B,
        n, O, H * W).
        """
        batch, _, height, width = x.shape
        columns = x.reshape(batch, self.n, -1, height * width).permute(1, 2, 0, 3).flatten(2)
        return torch.bmm(weight, columns).unflatten(2, (batch, -1)).permute(2, 0, 1, 3)

    def _conv(self, module: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
        weight, bias = module.weight, module.bias.flatten()
        size = x.shape[-2:]
        if module.kernel_size == (1, 1):
            return (
                self._product(weight.flatten(2), x).reshape(len(x), -1, *size) + bias[:, None, None]
            )
        outputs = weight.shape[1]
        if outputs < 8 and module.stride == (1, 1):
            # Libraries are slow on few output channels, above all backwards: take the products
            # with all taps of the kernel at once, then add up what falls on the same pixel.
            taps = weight.flip(3, 4).permute(0, 1, 3, 4, 2).flatten(1, 3)
            columns = self._product(taps, x).flatten(0, 1)
            out = F.fold(columns, tuple(size), module.kernel_size, padding=module.padding)
            return out.reshape(len(x), -1, *size) + bias[:, None, None]
        return F.conv2d(x, weight.flatten(0, 1), bias, module.stride, module.padding, groups=self.n)

    def _norm(self, module: nn.GroupNorm, x: torch.Tensor) -> torch.Tensor:
        return F.group_norm(
            x,
            self.n * module.num_groups,
            module.weight.flatten(),
            module.bias.flatten(),
            module.eps,
        )

    @staticmethod
    def _linear(module: nn.Linear, x: torch.Tensor) -> torch.Tensor:
        """(n, K, I) to (n, K, O)."""
        return torch.baddbmm(module.bias[:, None], x, module.weight.transpose(1, 2))

    def _dropout(self, module: nn.Dropout, x: torch.Tensor) -> torch.Tensor:
        if not self.training or not module.p:
            return x
        split = self._split(x)
        # Drawn once, so that dropout does not tell the models apart.
        return (split * F.dropout(x.new_ones(split[:, 0].shape), module.p)[:, None]).flatten(1, 2)

    def _resnet(self, block: nn.Module, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        h = self._conv(block.conv1, F.silu(self._norm(block.norm1, x)))
        h = h + self._linear(block.time_emb_proj, time).transpose(0, 1).flatten(1)[:, :, None, None]
        h = self._conv(
            block.conv2, self._dropout(block.dropout, F.silu(self._norm(block.norm2, h)))
        )
        return h + (x if block.conv_shortcut is None else self._conv(block.conv_shortcut, x))

    def _attention(self, block: nn.Module, x: torch.Tensor) -> torch.Tensor:
        batch, _, height, width = x.shape
        n, pixels = self.n, height * width
        h = (
            self._norm(block.group_norm, x)
            .reshape(batch, n, -1, pixels)
            .permute(1, 0, 3, 2)
            .flatten(1, 2)
        )

        def heads(linear: nn.Linear) -> torch.Tensor:
            return self._linear(linear, h).view(n * batch, pixels, block.heads, -1).transpose(1, 2)

        h = F.scaled_dot_product_attention(heads(block.to_q), heads(block.to_k), heads(block.to_v))
        h = self._linear(block.to_out[0], h.transpose(1, 2).reshape(n, batch * pixels, -1))
        return x + h.view(n, batch, pixels, -1).permute(1, 0, 3, 2).reshape(x.shape)

    def _layers(
        self,
        block: nn.Module,
        x: torch.Tensor,
        time: torch.Tensor,
        skips: list | None = None,
        visit=None,
    ) -> torch.Tensor:
        """The layers of a down or an up block; ``skips`` are taken from the end, ``visit`` is shown
        each output.
        """
        attentions = getattr(block, "attentions", None) or [None] * len(block.resnets)
        for resnet, attention in zip(block.resnets, attentions, strict=True):
            if skips is not None:
                x = torch.cat([self._split(x), self._split(skips.pop())], dim=2).flatten(1, 2)
            x = self._resnet(resnet, x, time)
            if attention is not None:
                x = self._attention(attention, x)
            if visit is not None:
                visit(x)
        return x

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        unet, patch, states = self.net.unet, self.net.patch, x
        t = t.reshape(len(x) if t.ndim else 1, -1).expand(len(x), -1)  # (B, 1) or (B, n)
        time = unet.time_proj(t.T.flatten()).to(x.dtype).unflatten(0, (-1, len(x)))
        time = time.expand(self.n, -1, -1)
        time = self._linear(
            unet.time_embedding.linear_2, F.silu(self._linear(unet.time_embedding.linear_1, time))
        )
        # Every layer passes it through the same nonlinearity first.
        time = F.silu(time)
        x = self._conv(unet.conv_in, x if patch == 1 else F.pixel_unshuffle(x, patch))
        skips = [x]
        for block in unet.down_blocks:
            x = self._layers(block, x, time, visit=skips.append)
            for sampler in block.downsamplers or []:
                x = self._conv(sampler.conv, x)
                skips.append(x)
        middle = unet.mid_block
        x = self._resnet(middle.resnets[0], x, time)
        for attention, resnet in zip(middle.attentions, middle.resnets[1:], strict=True):
            x = self._resnet(resnet, self._attention(attention, x), time)
        for block in unet.up_blocks:
            x = self._layers(block, x, time, skips)
            for sampler in block.upsamplers or []:
                x = self._conv(sampler.conv, F.interpolate(x, scale_factor=2.0, mode="nearest"))
        x = self._conv(unet.conv_out, F.silu(self._norm(unet.conv_norm_out, x)))
        x = x if patch == 1 else F.pixel_shuffle(x, patch)
        if self.net.predicts == "noise":
            return x
        # (B, n, 1, 1, 1), or (B, 1, 1, 1, 1) where the models share their times
        a = self.net.alphas[t][:, :, None, None, None]
        of_states, of_out = noise_shares(self.net.predicts, a)
        return (of_states * self._split(states) + of_out * self._split(x)).flatten(1, 2)
