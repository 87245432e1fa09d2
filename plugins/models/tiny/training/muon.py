"""Muon, an optimiser whose update of a weight matrix is nearly orthogonal."""

import torch
from torch import Tensor


def orthogonalised(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Return a batch of matrices with their singular values pushed to about one (quintic Newton-Schulz)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.bfloat16()
    wide = x.size(-2) <= x.size(-1)
    x = x if wide else x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x if wide else x.mT).float()


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonal updates; a fused attention weight of width 3·d counts as three matrices."""

    def __init__(self, weights: list[Tensor], lr: float, momentum: float = 0.95, decay: float = 0.02) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Update every weight; matrices of one shape are orthogonalised together."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
            for weight in group["params"]:
                state = self.state[weight]
                velocity = state.setdefault("velocity", torch.zeros_like(weight))
                velocity.lerp_(weight.grad, 1 - group["momentum"])
                direction = weight.grad.lerp(velocity, group["momentum"])
                parts = 3 if weight.size(1) == 3 * weight.size(0) else 1
                for part, along in zip(weight.chunk(parts, 1), direction.chunk(parts, 1), strict=True):
                    by_shape.setdefault(part.shape, []).append((part, along))
            for shape, pairs in by_shape.items():
                updates = orthogonalised(torch.stack([along for _, along in pairs]))
                scale = group["lr"] * max(1.0, shape[1] / shape[0]) ** 0.5
                for (part, _), update in zip(pairs, updates, strict=True):
                    part.mul_(1 - group["lr"] * group["decay"]).sub_(update, alpha=scale)
