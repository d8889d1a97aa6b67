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
from flaxlab.claims import Claim, Statement
from flaxlab.compare.noise import difference_errors, pairing, spread_between_runs
from flaxlab.compare.outcomes import Outcomes
from flaxlab.compare.procedures import (
    ANYTIME,
    PAIRED,
    difference_p,
    seeds_needed,
    smallest_detectable,
)
from flaxlab.compare.statistics import (
    bonferroni,
    mean_interval,
    prediction_interval,
    share_interval,
    t_test,
)
from flaxlab.compare.verdicts import ArmValues, decide
from flaxlab.data.digits import load_digits
from flaxlab.training.experiment import assemble

# %% [markdown]
# ## Three arms, eight seeds
#
# The arms are the network of the chapters before, the same without dropout, and the same without
# batch normalization. `with_seed` gives the same experiment with another seed: its step is the same
# function, so each arm is compiled once for all its seeds.

# %%
digits = load_digits((8, 8, 1))
SEEDS, EPOCHS = range(8), 3


def train_all_seeds(**model_fields):
    """Whether each test image was right after the last epoch: bool (seeds, images)."""
    config = digits_small.get_config()
    config.model.update(model_fields)
    experiment = assemble(config, digits)
    train_step, eval_step = jax.jit(experiment.train_step), jax.jit(experiment.eval_step)
    (test,) = eval_batches(digits.test, len(digits.test))
    found = []
    for seed in SEEDS:
        state = experiment.with_seed(seed).create_state()
        for epoch in range(1, EPOCHS + 1):
            for batch in train_batches(digits.train, 32, seed, epoch):
                state, _ = train_step(state, batch)
        _, logits = eval_step(state, test)
        found.append(np.argmax(logits, axis=1) == digits.test.labels)
    return np.array(found)


right = {
    "baseline": train_all_seeds(),
    "no dropout": train_all_seeds(head_dropout=()),
    "no batch norm": train_all_seeds(norm="none"),
}
arms = {name: images.mean(axis=1) for name, images in right.items()}
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
# difference itself, seed by seed: what a seed does to both arms cancels. How much it cancels is a
# matter of the correlation between the arms; `pairing` compares the interval with the one that the
# same runs would give if they did not belong together.

# %%
differences = {name: arms[name] - arms["baseline"] for name in ("no dropout", "no batch norm")}
for name, found in differences.items():
    estimate, p = mean_interval(found), t_test(found)
    brought = pairing(arms[name], arms["baseline"])
    print(
        f"{name}: {100 * estimate.mean:+.2f} [{100 * estimate.low:+.2f},"
        f" {100 * estimate.high:+.2f}] points, p = {p:.2g}; correlation {brought.correlation:+.2f},"
        f" ±{100 * brought.paired:.2f} paired, ±{100 * brought.unpaired:.2f} unpaired"
    )
    # The interval leaves 0 out if and only if the t test says p < 0.05.
    assert (p < 0.05) == (not estimate.contains(0.0))

# %% [markdown]
# ## Two kinds of noise
#
# A different seed gives a different accuracy. So would different test images: these are 360 of all
# the digits ever written. How much of the spread between runs arises only because each run gets
# different images of a small test split right? And what is the standard error of a difference that
# should hold for other seeds *and* other images?

# %%
for name, images in right.items():
    spread = spread_between_runs(images)
    print(
        f"{name}: spread between runs {100 * spread.seen:.2f} points;"
        f" the {images.shape[1]} images alone would give {100 * spread.by_images:.2f}"
    )
for name in differences:
    errors = difference_errors(right[name], right["baseline"])
    print(
        f"{name}: error of the difference from seeds {100 * errors.seeds:.2f}, from images"
        f" {100 * errors.images:.2f}, from both {100 * errors.both:.2f} points"
    )
    assert errors.both >= max(errors.seeds, errors.images)

# %% [markdown]
# More seeds make the first error smaller and leave the second as it is. An interval over seeds
# speaks of *these* images.
#
# ## How many seeds for half a point?
#
# The report's difference is 0.49 points, between AlexNets with and without batch normalization.
# Suppose that the differences between paired seeds spread like those that we have just measured
# for that ablation. How large a difference do `n` seeds find, with a probability of 80%?

# %%
reported = (
    alexnet_default.LAB_REPORT.final_accuracy - alexnet_no_batchnorm.LAB_REPORT.final_accuracy
)
spread = float(np.std(differences["no batch norm"], ddof=1))
counts = [2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100]
detectable = [smallest_detectable(spread, count) for count in counts]

figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
axes.loglog(counts, 100 * np.array(detectable), "o-", color="#0072B2")
axes.axhline(100 * reported, color="#D55E00", linestyle="--")
axes.set(xlabel="seeds of each arm", ylabel="smallest difference found, points")
axes.text(3, 100 * reported * 1.1, "the report's difference", color="#D55E00")
axes.minorticks_off()
axes.set(
    xticks=counts, xticklabels=counts, yticks=[0.5, 1, 2, 5, 10], yticklabels=[0.5, 1, 2, 5, 10]
)
print(f"spread of the differences: {100 * spread:.2f} points; the report's: {100 * reported:.2f}")
for count in (2, 3, 5, 20):
    print(f"{count:3} seeds: {100 * smallest_detectable(spread, count):.2f} points")
print(f"the report's difference: {seeds_needed(reported, spread)} seeds")
assert np.all(np.diff(detectable) < 0)
assert np.isclose(100 * reported, 0.49)
assert smallest_detectable(spread, seeds_needed(reported, spread)) <= reported

# %% [markdown]
# With one seed there is no answer at all: no spread, no interval, no test. From two seeds to five,
# every seed more brings a lot, since the t distribution itself becomes narrower. After that it
# goes by the square root. And a plan is as good as its spread: that of another arm may be off by a
# factor of three, and the number of seeds by its square.
#
# ## Many arms
#
# A test at the level of 5% finds something in 5% of the cases where there is nothing. With five
# arms that do nothing, it finds something in one of them much more often. Here is a thousand such
# studies, with five seeds each, and with Bonferroni's correction, which `flaxlab.compare` applies
# to p values and intervals alike, so that the two never disagree:

# %%
rng = np.random.default_rng(0)
plain = corrected = 0
for _ in range(1000):
    p_values = [t_test(rng.normal(0, 0.01, 5)) for arm in range(5)]
    plain += min(p_values) < 0.05
    corrected += bonferroni(min(p_values), 5) < 0.05
print(
    f"studies that find something where nothing is: {plain / 1000:.1%},"
    f" with Bonferroni {corrected / 1000:.1%}"
)
# 1 - 0.95 ** 5 is 22.6%; three standard errors of 1,000 studies are 4 and 2 points.
assert abs(plain / 1000 - 0.226) < 0.04
assert corrected / 1000 < 0.05 + 0.021

# %% [markdown]
# ## Looking and adding
#
# The seeds show nothing yet, so three more are trained, and three more. Each look is another chance
# to find what is not there. Here is an arm without any difference, looked at after every seed from
# the second to the twentieth, in 300 studies. An *e-value* is another kind of evidence: what a
# stake of 1 on a bet against "no difference" has become. If there is no difference, it is 1 on
# average, and by Ville's inequality it reaches 20 in at most 5% of studies, however often you look.
# `difference_p` with the test `ANYTIME` is its reciprocal.

# %%
nothing = dict.fromkeys(range(20), 0.0)
fooled = dict.fromkeys((PAIRED, ANYTIME), 0)
for _ in range(300):
    drawn = rng.normal(0, 0.01, 20)
    for test in fooled:
        fooled[test] += any(
            difference_p(test, dict(enumerate(drawn[:count])), nothing) < 0.05
            for count in range(2, 21)
        )
print(
    f"studies with a false difference: {fooled[PAIRED] / 300:.0%} with a t test after every seed,"
    f" {fooled[ANYTIME] / 300:.0%} with e-values"
)
assert fooled[PAIRED] / 300 > 0.15
assert fooled[ANYTIME] / 300 < 0.05 + 0.04

# %% [markdown]
# `python -m flaxlab.suite --until=decided` works this way: it gives each arm one seed after the
# other until there is a verdict. The price is power: with the number of seeds fixed in advance, the
# t test finds smaller differences.
#
# ## Runs that do not learn
#
# Some networks collapse: now and then a run ends no better than guessing. Suppose that an arm is
# two points better than its baseline, and that one of five runs of the baseline collapses. The mean
# of all runs then describes no run that there is, and its interval is so wide that nothing is seen:

# %%
baseline = np.array([0.100, 0.851, 0.848, 0.853, 0.849])
arm = np.array([0.869, 0.872, 0.868, 0.871, 0.870])
all_runs, healthy = mean_interval(arm - baseline), mean_interval((arm - baseline)[1:])
print(f"all runs: {100 * all_runs.low:+.0f} to {100 * all_runs.high:+.0f} points")
print(f"those that learned: {100 * healthy.low:+.1f} to {100 * healthy.high:+.1f} points")
low, high = share_interval(1, 5)
print(f"the baseline does not learn in {low:.0%} to {high:.0%} of its runs")
assert all_runs.contains(0.0)
assert not healthy.contains(0.0)

# %% [markdown]
# So they are two questions: *how often* does it learn, and *how well*, when it does. A comparison
# answers both, side by side. What it must not do is to leave out silently what went wrong; and the
# rule for what has collapsed is fixed before the runs.
#
# ## Claims
#
# A sentence of a report becomes one or several statements that runs can support or contradict. Two
# about our arms; the report's eight stand in `experiments/claims.py`. A suite's file names its
# claims, and `python -m flaxlab.compare` decides on them in the same way, each part by itself and
# the claim as a whole. `decide` corrects for their number.

# %%
values = {
    name: ArmValues(
        {seed: {"accuracy": value} for seed, value in zip(SEEDS, found, strict=True)},
        Outcomes(tuple(SEEDS), (), (), (), (), ()),
        steps={"accuracy": 1 / len(digits.test)},
    )
    for name, found in arms.items()
}
claims = {
    1: Claim("Dropout helps.", "digits", (Statement("accuracy", "baseline", "no dropout"),)),
    2: Claim(
        "Batch normalization helps.",
        "digits",
        (Statement("accuracy", "baseline", "no batch norm"),),
    ),
}
judged = decide(claims, {"digits": values})
for each in judged:
    print(f"{each.claim.text} {each.verdict.word} (p = {each.verdict.p:.2g})")
assert [each.verdict.word for each in judged] == ["contradicted", "supported"]

# %% [markdown]
# In three epochs, dropout costs this small network a point: it slows learning down, and nothing is
# overfitted yet. A claim that is wrong here may be right for AlexNet after ten epochs: more seeds
# say nothing about other networks and other data.
#
# The third possible word is "undecided". It does not mean "no difference": these seeds cannot
# tell. That two arms are *equivalent* is a claim of its own, which needs a region of differences
# that do not matter, named before the runs, and an interval that lies within it.
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
