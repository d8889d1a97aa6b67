"""Places of batch normalization in AlexNet on Fashion-MNIST.

    python -m flaxlab.suite --config=experiments/suites/norm_places.py

After each block's pooling, as the lab report has it, or before or after the activation of each
convolution.
"""

from flaxlab.suite.definition import Suite
from flaxlab.suite.designs import sweep


def get_suite() -> Suite:
    places = sweep("model.norm_place", ("before_activation", "after_activation"))
    return Suite(name="norm_places", baseline="alexnet_pool", arms=places)
