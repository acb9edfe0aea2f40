"""The second-order gradient of the logits: how the validation loss changes after the weights have answered.

DARTS (Liu et al., 2019), Section 2.3: the weights answer by one virtual step of gradient descent, and the product of
the mixed second derivative with a vector is a central difference. The true optimiser is Adam; that its answer is taken
for one of gradient descent is DARTS's approximation.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

STEP_LENGTH = 0.01
"""Length of the step in weight space over which the difference is taken (DARTS)."""


def unrolled_gradient(
    training_loss: Callable[[], Tensor],
    validation_loss: Callable[[], Tensor],
    alphas: Tensor,
    weights: Sequence[Tensor],
    rate: Tensor | float,
) -> Tensor:
    """Return d L_val(w - rate * dL_train/dw, alpha) / d alpha.

    Args:
        training_loss: Of the present weights and logits.
        validation_loss: The same on other data.
        alphas: The logits.
        weights: All that is trained by the training loss, the duals included. They are the same afterwards.
        rate: Learning rate of the virtual step.

    Returns:
        A tensor like ``alphas``. The host never waits for the device.
    """
    kept = [weight.detach().clone() for weight in weights]
    # Weights that nothing reads have a gradient of zero.
    answer = torch.autograd.grad(training_loss(), weights, allow_unused=True, materialize_grads=True)
    everything, sides = [alphas, *weights], []
    try:
        with torch.no_grad():
            torch._foreach_sub_(list(weights), torch._foreach_mul(answer, rate))
        direct, *direction = torch.autograd.grad(
            validation_loss(), everything, allow_unused=True, materialize_grads=True
        )
        # Divided by below: the released DRC code multiplies, which makes the second order vanish.
        epsilon = STEP_LENGTH / torch.stack(torch._foreach_norm(direction)).norm().clamp(min=1e-12)
        for sign in (1, -1):
            with torch.no_grad():
                for weight, start, towards in zip(weights, kept, direction, strict=True):
                    torch.add(start, towards * (sign * epsilon), out=weight.data)
            sides.append(torch.autograd.grad(training_loss(), alphas)[0])
    finally:
        with torch.no_grad():
            torch._foreach_copy_(list(weights), kept)
    mixed: Tensor = (sides[0] - sides[1]) / (2 * epsilon)
    return direct - rate * mixed
