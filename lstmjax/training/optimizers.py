"""Make an Optax transformation from the `optimizer` section of a configuration; Adam with the ε of Keras."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from types import MappingProxyType

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from lstmjax.config import ConfigError, Optimizer, Plateau
from lstmjax.training.paths import chosen
from lstmjax.types import PyTree


def scale_by_adam_keras(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-7) -> optax.GradientTransformation:
    r"""Rescale updates by Adam in the form of Keras, which adds ε to the root of the raw second moment.

        m_t = b1·m_{t−1} + (1 − b1)·g        v_t = b2·v_{t−1} + (1 − b2)·g²
        u_t = √(1 − b2^t) / (1 − b1^t) · m_t / (√v_t + eps)

    This eps is the "epsilon hat" of Kingma & Ba (2015, the text before section 2.1). `optax.scale_by_adam`
    and PyTorch follow their Algorithm 1, m̂ / (√v̂ + ε) with v̂ = v_t / (1 − b2^t). The two agree if
    ε = eps / √(1 − b2^t), which is 32 eps at the first step. The difference matters where gradients are as
    small as ε.

    Args:
        b1, b2: decay rates of the first and the second moment.
        eps: Keras' default is 1e-7, PyTorch's and Optax' 1e-8.

    Returns:
        An Optax transformation; chain it with `optax.scale_by_learning_rate`.

    >>> rule = scale_by_adam_keras()
    >>> gradient = {"w": jnp.array([1e-6, 1.0])}
    >>> updates, _ = rule.update(gradient, rule.init(gradient))
    >>> [round(float(u), 3) for u in updates["w"]]
    [0.24, 1.0]
    """

    def init(params: PyTree) -> optax.ScaleByAdamState:
        m, v = jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params)
        return optax.ScaleByAdamState(jnp.zeros([], jnp.int32), m, v)

    def update(updates: PyTree, state: PyTree, params: PyTree | None = None) -> tuple[PyTree, PyTree]:
        m = jax.tree.map(lambda g, m: b1 * m + (1 - b1) * g, updates, state.mu)
        v = jax.tree.map(lambda g, v: b2 * v + (1 - b2) * g * g, updates, state.nu)
        count = optax.safe_increment(state.count)
        correction = jnp.sqrt(1 - b2**count) / (1 - b1**count)
        u = jax.tree.map(lambda m, v: correction.astype(m.dtype) * m / (jnp.sqrt(v) + eps), m, v)
        return u, optax.ScaleByAdamState(count, m, v)

    return optax.GradientTransformation(init, update)


RULES: MappingProxyType[str, Callable[[Optimizer], optax.GradientTransformation]] = MappingProxyType(
    {
        "adamw": lambda o: optax.scale_by_adam(),
        "adam": lambda o: optax.scale_by_adam(),
        "adam_keras": lambda o: scale_by_adam_keras(),
        "sgd": lambda o: optax.trace(decay=o.momentum),
        "rmsprop": lambda o: optax.scale_by_rms(decay=0.9),
        "lion": lambda o: optax.scale_by_lion(),
    }
)
"""The update rules by `optimizer.name`, without step size and decay."""

SCHEDULES: MappingProxyType[str, Callable[[Optimizer, int], optax.Schedule]] = MappingProxyType(
    {
        "constant": lambda o, steps: optax.constant_schedule(o.learning_rate),
        "cosine": lambda o, steps: optax.cosine_decay_schedule(o.learning_rate, steps, o.final_fraction),
        "linear": lambda o, steps: optax.linear_schedule(o.learning_rate, o.learning_rate * o.final_fraction, steps),
    }
)
"""The step size over the steps after the warm-up, by `optimizer.schedule`."""


def make_schedule(config: Optimizer, steps: int) -> optax.Schedule:
    """Return the step size as a function of the step, 0 to `steps` - 1.

    >>> schedule = make_schedule(Optimizer(learning_rate=0.5, schedule="linear", warmup_steps=2), 6)
    >>> [round(float(schedule(step)), 3) for step in range(6)]
    [0.25, 0.5, 0.5, 0.375, 0.25, 0.125]

    Raises:
        ConfigError: the warm-up is as long as the training.
    """
    warmup = config.warmup_steps
    if warmup >= steps:
        raise ConfigError(
            f"optimizer.warmup_steps is {warmup}, but there are only {steps} training steps; set it lower, or train "
            "longer"
        )
    main = SCHEDULES[config.schedule](config, steps - warmup)
    if not warmup:
        return main
    # The warm-up starts at its first fraction rather than at zero, which would waste a step.
    rise = optax.linear_schedule(config.learning_rate / warmup, config.learning_rate, max(warmup - 1, 1))
    return optax.join_schedules([rise, main], [warmup])


@lru_cache(maxsize=64)
def make_optimizer(
    config: Optimizer, steps: int, dtype: str = "float32", schedule: optax.Schedule | None = None
) -> optax.GradientTransformation:
    """Chain clipping, the update rule, decoupled weight decay and the step size, in this order.

    The decay is multiplied by the step size (Loshchilov & Hutter 2019), for every rule. Around them, gradients are
    accumulated over batches, and parameters that are frozen get no update.

    Args:
        config: section of the configuration.
        steps: number of batches in all.
        dtype: of the parameters.
        schedule: step size as a function of the update; None: that of the configuration.

    Raises:
        ConfigError: there are fewer steps than the warm-up or an accumulation takes.
    """
    updates = steps // config.accumulate
    if updates < 1:
        raise ConfigError(
            f"optimizer.accumulate is {config.accumulate}, but there are only {steps} training steps; set it lower, or "
            "train longer"
        )
    parts = [
        None if config.clip_norm is None else optax.clip_by_global_norm(config.clip_norm),
        RULES[config.name](config),
        optax.add_decayed_weights(config.weight_decay) if config.weight_decay else None,
        optax.scale_by_learning_rate(schedule or make_schedule(config, updates)),
    ]
    rule: optax.GradientTransformation = optax.chain(*(part for part in parts if part is not None))
    if config.freeze:
        rule = optax.partition({"train": rule, "freeze": optax.set_to_zero()}, partial(_labels, config.freeze))
    if config.accumulate > 1:
        rule = optax.MultiSteps(rule, config.accumulate, accumulator_dtype=dtype).gradient_transformation()
    return rule


def _labels(freeze: tuple[str, ...], params: PyTree) -> PyTree:
    return jax.tree.map(lambda is_frozen: "freeze" if is_frozen else "train", chosen(params, freeze))


def make_plateau(config: Plateau) -> optax.GradientTransformationExtraArgs | None:
    """Return the rule that reduces the step size where validation does not improve; None: there is none."""
    if config.patience is None:
        return None
    return optax.contrib.reduce_on_plateau(
        config.factor,
        config.patience,
        rtol=0.0,
        atol=config.min_delta,
        cooldown=config.cooldown,
        min_scale=config.min_fraction,
    )
