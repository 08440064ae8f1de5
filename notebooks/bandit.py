# %% [markdown]
# # A bandit: which algorithm does an LSTM find in choices?
#
# **The question.** Subjects choose between two arms that pay with changing probabilities. A small LSTM that is fitted
# to their choices predicts them well, but what did it find? Here the answer is known: the choices come from Q-learning,
# so the LSTM can be compared with the model that made them, in likelihood first and then in what goes on inside it.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from lstmjax import fixed_points, init_params, lstm, trace

np.set_printoptions(precision=3, suppress=True, linewidth=110)

# %% tags=["parameters"]
STEPS, BATCH, SUBJECTS, SESSIONS, TRIALS = 1500, 96, 24, 60, 100

# %% [markdown]
# ## Choices of a known agent
#
# A subject has a learning rate α and an inverse temperature β. It chooses arm 1 with probability σ(β (Q₁ − Q₀)), and
# moves the value of the chosen arm towards the reward: Q ← Q + α (r − Q). The arms pay with probabilities 0.8 and 0.2,
# which change places at random, once in 25 trials on average. Of every six sessions one is not fitted, for the test.


# %%
def session(key, alpha, beta):
    """Play one session of Q-learning; return choices, rewards and the probability of arm 1 at every trial, [T]."""

    def trial(carry, key):
        q, better = carry
        keys = jax.random.split(key, 3)
        p = jax.nn.sigmoid(beta * (q[1] - q[0]))
        choice = jax.random.bernoulli(keys[0], p).astype(jnp.int32)
        reward = jax.random.bernoulli(keys[1], jnp.where(choice == better, 0.8, 0.2)).astype(jnp.float32)
        after = q.at[choice].add(alpha * (reward - q[choice]))
        better = jnp.where(jax.random.bernoulli(keys[2], 1 / 25), 1 - better, better)
        return (after, better), (choice, reward, p, q[1] - q[0])

    begin = (jnp.full(2, 0.5), jax.random.bernoulli(key).astype(jnp.int32))
    return jax.lax.scan(trial, begin, jax.random.split(key, TRIALS))[1]


keys = jax.random.split(jax.random.key(1), 2)
alphas = jax.random.uniform(keys[0], (SUBJECTS,), minval=0.2, maxval=0.7)
betas = jax.random.uniform(keys[1], (SUBJECTS,), minval=2.0, maxval=6.0)
subject = jnp.repeat(jnp.arange(SUBJECTS), SESSIONS)
sessions = jax.random.split(jax.random.key(2), SUBJECTS * SESSIONS)
choices, rewards, p, values = jax.jit(jax.vmap(session))(sessions, alphas[subject], betas[subject])
test = jnp.tile(jnp.arange(SESSIONS) % 6 == 0, SUBJECTS)
print(choices.shape, "choices; arm 1 was chosen", float(choices.mean()), "of the time, rewarded", float(rewards.mean()))

# %% [markdown]
# ## The LSTM
#
# It sees what the subject saw: the last choice and its reward, and nothing on the first trial. Who the subject is, it
# learns as an embedding of two numbers for each, which stand beside the input at every trial; the weights are the same
# for all. The loss is the negative log-likelihood of the choices, on sessions of all subjects drawn at random.


# %%
def inputs(choices, rewards, embedding):
    """Return what the LSTM reads: [chose 0, chose 1] and [rewarded 0, rewarded 1] of the trial before, embedding."""
    chosen = jax.nn.one_hot(choices, 2)
    seen = jnp.concatenate([chosen, chosen * rewards[..., None]], axis=-1)
    seen = jnp.pad(seen, ((0, 0), (1, 0), (0, 0)))[:, :-1]
    who = jnp.broadcast_to(embedding[:, None], (*seen.shape[:2], embedding.shape[-1]))
    return jnp.concatenate([seen, who], axis=-1)


def logit(params, xs):
    hs = lstm(params["lstm"], xs)[1]
    return hs @ params["w"] + params["b"]


def log_likelihood(params, part):
    xs = inputs(choices[part], rewards[part], params["who"][subject[part]])
    signs = 2 * choices[part] - 1
    return jax.nn.log_sigmoid(signs * logit(params, xs)).mean()


key = jax.random.key(3)
params = {
    "lstm": init_params(key, 6, 6, forget_bias=1.0),
    "w": 0.1 * jax.random.normal(key, (6,)),
    "b": jnp.zeros(()),
    "who": 0.1 * jax.random.normal(key, (SUBJECTS, 2)),
}
fitted, tested = np.flatnonzero(~test), np.flatnonzero(test)
optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(2e-2, STEPS)))


@jax.jit
def fit(params):
    def step(carry, key):
        params, slopes = carry
        part = jax.random.choice(key, jnp.asarray(fitted), (BATCH,), replace=False)
        value, gradient = jax.value_and_grad(lambda params: -log_likelihood(params, part))(params)
        change, slopes = optimizer.update(gradient, slopes, params)
        return (optax.apply_updates(params, change), slopes), value

    (params, _), losses = jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(key, STEPS))
    return params, losses


params, losses = fit(params)

# %% [markdown]
# The normalised likelihood is the mean probability given to a choice, as a geometric mean: exp(mean log p). 0.5 is
# guessing. No model can do better than the one that made the choices, but by chance.

# %%
made_by = jnp.where(choices == 1, p, 1 - p)
ours, theirs = (float(jnp.exp(a)) for a in (log_likelihood(params, tested), jnp.log(made_by[tested]).mean()))
print(f"normalised likelihood on sessions that were not fitted: LSTM {ours:.4f}, the generating model {theirs:.4f}")
print(f"ratio {ours / theirs:.4f}")

# %% [markdown]
# ## What goes on inside: the difference of values
#
# Q-learning remembers two numbers, and only their difference Q₁ − Q₀ decides. Is it in the LSTM? Its logit should be
# β (Q₁ − Q₀), so it is compared with the true difference of values, subject by subject; and `trace` records c and h of
# every unit at every trial, in which a linear readout is sought.

# %%
xs = inputs(choices, rewards, params["who"][subject])
logits = logit(params, xs)
slopes = np.array(
    [np.polyfit(values[subject == s].ravel(), logits[subject == s].ravel(), 1)[0] for s in range(SUBJECTS)]
)
print(
    "logit and β (Q1 - Q0): correlation",
    float(np.corrcoef(logits.ravel(), (betas[subject][:, None] * values).ravel())[0, 1]),
)
print("slope of the logit over Q1 - Q0, and β: correlation", float(np.corrcoef(slopes, betas)[0, 1]))

steps = trace(params["lstm"], xs)
alone = [abs(float(np.corrcoef(steps.c[..., n].ravel(), values.ravel())[0, 1])) for n in range(6)]
print("each unit's c with Q1 - Q0:", np.array(alone))
design = np.concatenate([steps.c, np.ones((*steps.c.shape[:2], 1))], axis=-1)
weights, *_ = np.linalg.lstsq(design[fitted].reshape(-1, 7), np.asarray(values[fitted]).ravel(), rcond=None)
read = design[tested] @ weights
print("all units together, R2 on the test:", float(1 - np.var(read - values[tested]) / np.var(values[tested])))

# %%
figure, axis = plt.subplots(figsize=(9, 2.6), layout="constrained")
one = int(tested[1])
axis.plot(values[one], label="Q1 - Q0")
axis.plot(design[one] @ weights, label="read from c")
axis.plot(np.where(choices[one] == 1, 1.15, -1.15), "|k", markersize=6)
axis.set(
    xlabel="trial", ylabel="difference of values", title="a session that was not fitted; above and below, the choices"
)
axis.legend(loc="lower right")
plt.close(figure)
figure

# %% [markdown]
# ## Fixed points: where a subject ends up, and how fast
#
# If arm 1 is chosen and rewarded again and again, Q₁ goes to 1, and its distance from 1 shrinks by the factor 1 − α a
# trial; Q₀ stays what it was. If it is never rewarded, Q₁ goes to 0. So under a constant input the logit must settle,
# above 0 where arm 1 pays, below where it does not, and of two directions that decay slowly one is the value being
# learned, with the eigenvalue 1 − α, and the other the value that stays, with an eigenvalue near 1.

# %%
starts = tuple(jnp.concatenate([a[0, :: TRIALS // 5], a[-1, :: TRIALS // 5]]) for a in (steps.h, steps.c))
names = ("arm 0 pays", "arm 0 does not", "arm 1 pays", "arm 1 does not")
stimuli = jnp.array([[1, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 1], [0, 1, 0, 0]], jnp.float32)
middle = params["who"].mean(0)


def points(stimulus, who):
    return fixed_points(params["lstm"], jnp.concatenate([stimulus, who]), starts)


for name, stimulus in zip(names, stimuli):
    found = points(stimulus, middle)
    chosen = np.flatnonzero(found.distinct & (found.speeds < 1e-6))
    settled = np.sort(found.h[chosen] @ params["w"] + params["b"])
    sizes = np.median(np.abs(found.eigenvalues[chosen, :2]), axis=0)
    print(f"{name:<15} {len(chosen)} fixed or slow points, logits {settled}, eigenvalues {sizes}")

# %% [markdown]
# There are several points for one input, with an eigenvalue near 1: a line, along which the value of the other arm is
# remembered. A model that forgets the arm that is not chosen would have one point. The logits have the sign that the
# values say. The second eigenvalue is above the mean of 1 − α, 0.55: near its end, the LSTM learns a value more slowly
# than the model does. How it moves on the first trials is what the likelihood depends on, and is next.
#
# The same for every subject: after twenty trials in which arm 1 paid and arm 0 was forgotten, arm 1 stops paying. The
# logit falls by the same factor a trial, 1 − α in the model that made the choices.


# %%
def fall(who):
    """Return how fast the logit falls when arm 1 stops paying: its step after the first trial over the one before."""
    stream = jnp.concatenate([jnp.tile(stimuli[2], (20, 1)), jnp.tile(stimuli[3], (3, 1))])
    path = logit(params, jnp.concatenate([stream, jnp.broadcast_to(who, (23, 2))], axis=-1))
    down = jnp.diff(path[19:])
    return down[1] / down[0]


factors = np.array([fall(who) for who in params["who"]])
print("factor of the LSTM and 1 - α: correlation", float(np.corrcoef(factors, 1 - alphas)[0, 1]))
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
left.plot(betas, slopes, "o")
left.set(xlabel="β", ylabel="slope of the logit", title="how decided a subject is")
right.plot(1 - alphas, factors, "o")
right.axline((0.5, 0.5), slope=1, color="grey", linewidth=0.8)
right.set(xlabel="1 - α", ylabel="factor of the LSTM", title="how slowly it unlearns")
plt.close(figure)
figure
