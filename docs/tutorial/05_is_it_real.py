# %% [markdown]
# # 5. Is the difference real?
#
# The lab report that this laboratory is about says: AlexNet has 0.8596 validation accuracy with
# batch normalization and 0.8547 without, so batch normalization helps a little. Each number is one
# run.
#
# One run against one run is the commonest experiment in deep learning, and often it is none at
# all. This chapter measures how much two runs differ that differ in nothing but the seed, and what
# it takes to see half a point.

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np

from experiments import alexnet_default, alexnet_no_batchnorm, digits_small
from flaxlab.batches.order import eval_batches, train_batches
from flaxlab.claims import Statement
from flaxlab.compare.statistics import (
    holm,
    mean_interval,
    paired_difference,
    prediction_interval,
    smallest_detectable,
    t_test,
)
from flaxlab.compare.verdicts import decide, judge
from flaxlab.data.digits import load_digits
from flaxlab.training.experiment import assemble
from flaxlab.training.metrics import means, no_metrics

# %% [markdown]
# ## Three arms, eight seeds
#
# The arms are the network of the chapters before, the same without dropout, and the same without
# batch normalization. `with_seed` gives the same experiment with another seed: its step is the same
# function, so each arm is compiled once for all its seeds.

# %%
digits = load_digits((8, 8, 1))
SEEDS, EPOCHS = range(8), 3


def accuracies(**model_fields):
    """Test accuracy after the last epoch, for each seed."""
    config = digits_small.get_config()
    config.model.update(model_fields)
    experiment = assemble(config, digits)
    train_step, eval_step = jax.jit(experiment.train_step), jax.jit(experiment.eval_step)
    found = []
    for seed in SEEDS:
        state = experiment.with_seed(seed).create_state()
        for epoch in range(1, EPOCHS + 1):
            for batch in train_batches(digits.train, 32, seed, epoch):
                state, _ = train_step(state, batch)
        totals = no_metrics()
        for batch in eval_batches(digits.test, 120):
            totals += eval_step(state, batch)[0]
        found.append(means(totals)["accuracy"])
    return np.array(found)


arms = {
    "baseline": accuracies(),
    "no dropout": accuracies(head_dropout=()),
    "no batch norm": accuracies(batch_norm=False),
}
for name, values in arms.items():
    print(f"{name:14}", *(f"{value:.3f}" for value in values))

# %% [markdown]
# The same seed means the same initial values wherever two arms have the same layer, and the same
# order of examples. The seeds are *paired*, and that will help.
#
# ## What one run says
#
# Take one run of each arm, as the report did. There are 8 x 8 ways to choose the two seeds:

# %%
for name in ("no dropout", "no batch norm"):
    single = (arms[name][:, None] - arms["baseline"][None, :]).ravel() * 100
    print(
        f"{name}: from {single.min():+.1f} to {single.max():+.1f} points; better in"
        f" {np.mean(single > 0):.0%} of the pairs of runs, worse in {np.mean(single < 0):.0%}"
    )

# %% [markdown]
# ## Intervals
#
# `mean_interval` is Student's 95% interval for the *mean*: where the average of infinitely many
# seeds lies. `prediction_interval` is the one for *one more run*. It is what a single number in a
# report has to be compared with, and it does not shrink to nothing with more seeds: runs go on to
# differ.

# %%
figure, axes = plt.subplots(figsize=(6.5, 3), layout="constrained")
for row, (name, values) in enumerate(arms.items()):
    mean, further = mean_interval(values), prediction_interval(values)
    print(
        f"{name:14} mean {mean.mean:.4f} [{mean.low:.4f}, {mean.high:.4f}],"
        f" one more run [{further.low:.4f}, {further.high:.4f}]"
    )
    axes.plot([further.low, further.high], [row, row], color="#E69F00", linewidth=2)
    axes.plot([mean.low, mean.high], [row, row], color="#0072B2", linewidth=6)
    axes.plot(values, np.full(len(values), row + 0.22), "k.", markersize=5)
    assert further.low < mean.low < mean.mean < mean.high < further.high
axes.set(yticks=range(3), yticklabels=arms, xlabel="test accuracy", ylim=(-0.5, 2.6))
axes.set_title("seeds (dots), interval of the mean (blue), of one more run (orange)", fontsize=9)
axes.invert_yaxis()

# %% [markdown]
# ## Paired differences
#
# Two intervals that overlap do not say that there is no difference. Ask for the interval of the
# difference itself, seed by seed: what a seed does to both arms cancels. `paired_difference` gives
# it, with the p values of two tests, and the smallest difference that these seeds could have seen
# (with a power of 80%).

# %%
for name in ("no dropout", "no batch norm"):
    found = paired_difference(arms[name], arms["baseline"])
    estimate = found.estimate
    print(
        f"{name}: {100 * estimate.mean:+.2f} [{100 * estimate.low:+.2f},"
        f" {100 * estimate.high:+.2f}] points, p = {found.t_p:.2g} (t),"
        f" {found.sign_flip_p:.2g} (sign flips), could have seen {100 * found.detectable:.2f}"
    )
    # The interval leaves 0 out if and only if the t test says p < 0.05.
    assert (found.t_p < 0.05) == (not estimate.contains(0.0))
    # With 8 pairs there are 256 ways to flip the signs: no p value below 2/256.
    assert found.sign_flip_p >= 2 / 256

# %% [markdown]
# ## How many seeds for half a point?
#
# The report's difference is 0.49 points. Suppose the differences between paired seeds spread like
# those that we have just measured. How large a difference do `n` seeds find?

# %%
reported = (
    alexnet_default.LAB_REPORT.final_accuracy - alexnet_no_batchnorm.LAB_REPORT.final_accuracy
)
spread = float(np.std(arms["no dropout"] - arms["baseline"], ddof=1))
counts = [2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100]
detectable = [smallest_detectable(spread, count) for count in counts]

figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
axes.loglog(counts, 100 * np.array(detectable), "o-", color="#0072B2")
axes.axhline(100 * reported, color="#D55E00", linestyle="--")
axes.set(xlabel="seeds of each arm", ylabel="smallest difference found, points")
axes.text(20, 100 * reported * 1.1, "the report's difference", color="#D55E00")
axes.minorticks_off()
axes.set(
    xticks=counts, xticklabels=counts, yticks=[0.5, 1, 2, 5, 10], yticklabels=[0.5, 1, 2, 5, 10]
)
print(f"spread of the differences: {100 * spread:.2f} points; the report's: {100 * reported:.2f}")
for count in (2, 3, 5, 20):
    print(f"{count:3} seeds: {100 * smallest_detectable(spread, count):.2f} points")
assert np.all(np.diff(detectable) < 0)
assert np.isclose(100 * reported, 0.49)

# %% [markdown]
# With one seed there is no answer at all: no spread, no interval, no test. From two seeds to five,
# every seed more brings a lot, since the t distribution itself becomes narrower. After that it
# goes by the square root.
#
# ## Many arms
#
# A test at the level of 5% finds something in 5% of the cases where there is nothing. With five
# arms that do nothing, it finds something in one of them much more often. Here is a thousand such
# studies, with five seeds each, and with Holm's correction, which `flaxlab.compare` applies:

# %%
rng = np.random.default_rng(0)
plain = corrected = 0
for _ in range(1000):
    p_values = [t_test(rng.normal(0, 0.01, 5)) for arm in range(5)]
    plain += min(p_values) < 0.05
    corrected += min(holm(p_values)) < 0.05
print(
    f"studies that find something where nothing is: {plain / 1000:.1%},"
    f" with Holm {corrected / 1000:.1%}"
)
# 1 - 0.95 ** 5 is 22.6%; three standard errors of 1,000 studies are 4 and 2 points.
assert abs(plain / 1000 - 0.226) < 0.04
assert corrected / 1000 < 0.05 + 0.021

# %% [markdown]
# ## Claims
#
# A sentence of a report becomes an inequality that runs can support or contradict. Two about our
# arms; the report's eight stand in `experiments/claims.py`. A suite's file names its claims, and
# `python -m flaxlab.compare` decides on them in the same way. `decide` corrects for their number.

# %%
values = {
    name: {seed: {"accuracy": value} for seed, value in zip(SEEDS, found, strict=True)}
    for name, found in arms.items()
}
claims = {
    "dropout helps": Statement("accuracy", larger="baseline", smaller="no dropout"),
    "batch normalization helps": Statement("accuracy", larger="baseline", smaller="no batch norm"),
}
judgements = [[judge(statement, values)] for statement in claims.values()]
verdicts = decide(judgements)
for text, verdict in zip(claims, verdicts, strict=True):
    print(f"{text}: {verdict.word} (p = {verdict.p:.2g})")
assert [verdict.word for verdict in verdicts] == ["contradicted", "supported"]

# %% [markdown]
# In three epochs, dropout costs this small network a point: it slows learning down, and nothing is
# overfitted yet. A claim that is wrong here may be right for AlexNet after ten epochs: more seeds
# say nothing about other networks and other data.
#
# The third possible word is "undecided". It does not mean "no difference": these seeds cannot
# tell, and `detectable` says how large a difference they would have seen.
#
# ## Exercises
#
# 1. Is a 95% interval one? Draw five values from a normal distribution of known mean, 2,000 times,
#    and count how often `mean_interval` holds it. What if you use 1.96 in place of Student's t?
# 2. Report the *best* of ten epochs on the test split in place of the last one. How much does that
#    alone bring, if all ten have the same true accuracy of 0.9 and 1,000 test images are
#    independent draws at each epoch?
# 3. What does pairing bring? Compare the spread of the paired differences between two arms with
#    the spread of differences between different seeds. When does pairing help, and when not?
#
# Solutions: [`solutions/05_is_it_real.py`](solutions/05_is_it_real.py)
