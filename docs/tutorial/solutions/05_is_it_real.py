# %% [markdown]
# # Solutions to chapter 5

# %%
import numpy as np

from flaxlab.compare.statistics import mean_interval

rng = np.random.default_rng(0)

# %% [markdown]
# ## 1. Coverage
#
# Student's interval holds the true mean in 95% of the cases. With 1.96 and five values it holds it
# in about 88%: an interval that claims more than it knows.

# %%
draws = rng.normal(0.9, 0.01, (2000, 5))
intervals = [mean_interval(values) for values in draws]
student = np.mean([interval.contains(0.9) for interval in intervals])
half = 1.96 * draws.std(axis=1, ddof=1) / np.sqrt(5)
normal = np.mean(abs(draws.mean(axis=1) - 0.9) <= half)
print(f"Student's t holds the mean in {student:.1%}, 1.96 in {normal:.1%}")
assert abs(student - 0.95) < 0.015
assert normal < 0.91

# %% [markdown]
# ## 2. The best of ten epochs
#
# The accuracy of one epoch on 1,000 images has a standard error of 0.95 points. The largest of ten
# draws lies 1.54 of them above the mean, so choosing the best epoch on the test split brings about
# 1.5 points that are not there. Epochs of one run resemble each other, so in practice it is less,
# but never nothing: `--config.data.validation=holdout` chooses on other images.

# %%
accuracy = rng.binomial(1000, 0.9, (2000, 10)) / 1000
optimism = accuracy.max(axis=1).mean() - 0.9
print(f"the best of ten is {100 * optimism:.2f} points above the truth")
standard_error = np.sqrt(0.9 * 0.1 / 1000)
assert abs(optimism - 1.54 * standard_error) < 0.1 * standard_error

# %% [markdown]
# ## 3. Pairing
#
# If the seed does the same to both arms, the differences have a smaller variance than those of
# independent runs: var(a - b) = var(a) + var(b) - 2 cov(a, b). Pairing helps where the correlation
# is positive. Where it is 0, nothing is lost but a few degrees of freedom.

# %%
for correlation in (0.0, 0.8):
    covariance = [[1, correlation], [correlation, 1]]
    a, b = rng.multivariate_normal([0, 0], covariance, 100_000).T
    paired, independent = np.var(a - b), np.var(a - rng.permutation(b))
    print(f"correlation {correlation}: variance {paired:.2f} paired, {independent:.2f} unpaired")
    assert np.isclose(paired, 2 - 2 * correlation, atol=0.05)
    assert np.isclose(independent, 2, atol=0.05)
