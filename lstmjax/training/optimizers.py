"""From the `optimizer` section of a configuration to an Optax transformation."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import optax

from lstmjax.config import ConfigError, Optimizer

RULES: MappingProxyType[str, Callable[[Optimizer], optax.GradientTransformation]] = MappingProxyType(
    {
        "adamw": lambda o: optax.scale_by_adam(),
        "adam": lambda o: optax.scale_by_adam(),
        "sgd": lambda o: optax.trace(decay=o.momentum),
        "rmsprop": lambda o: optax.scale_by_rms(decay=0.9),
        "lion": lambda o: optax.scale_by_lion(),
    }
)
"""How a gradient becomes a direction, by `optimizer.name`."""

SCHEDULES: MappingProxyType[str, Callable[[Optimizer, int], optax.Schedule]] = MappingProxyType(
    {
        "constant": lambda o, steps: optax.constant_schedule(o.learning_rate),
        "cosine": lambda o, steps: optax.cosine_decay_schedule(o.learning_rate, steps, o.final_fraction),
        "linear": lambda o, steps: optax.linear_schedule(o.learning_rate, o.learning_rate * o.final_fraction, steps),
    }
)
"""How the step size falls over the steps after the warm-up, by `optimizer.schedule`."""


def make_schedule(config: Optimizer, steps: int) -> optax.Schedule:
    """Gives the step size as a function of the step, 0 to `steps` - 1.

    >>> schedule = make_schedule(Optimizer(learning_rate=0.5, schedule="linear", warmup_steps=2), 6)
    >>> [round(float(schedule(step)), 3) for step in range(6)]
    [0.25, 0.5, 0.5, 0.375, 0.25, 0.125]

    Raises:
        ConfigError: the warm-up is as long as the training.
    """
    warmup = config.warmup_steps
    if warmup >= steps:
        raise ConfigError(f"optimizer.warmup_steps is {warmup}, but there are only {steps} training steps")
    after = SCHEDULES[config.schedule](config, steps - warmup)
    if not warmup:
        return after
    # From the first share, not from zero, so that no step is wasted.
    rise = optax.linear_schedule(config.learning_rate / warmup, config.learning_rate, max(warmup - 1, 1))
    return optax.join_schedules([rise, after], [warmup])


def make_optimizer(config: Optimizer, steps: int) -> optax.GradientTransformation:
    """Gives clipping, the rule, decoupled decay and the step size, in this order.

    The decay is multiplied by the step size (Loshchilov & Hutter 2019), for every rule.
    """
    parts = [
        None if config.clip_norm is None else optax.clip_by_global_norm(config.clip_norm),
        RULES[config.name](config),
        optax.add_decayed_weights(config.weight_decay) if config.weight_decay else None,
        optax.scale_by_learning_rate(make_schedule(config, steps)),
    ]
    return optax.chain(*(part for part in parts if part is not None))
