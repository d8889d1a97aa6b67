"""Every knob of an experiment once: its default and what it means.

The protocol is defined here and nowhere else. The lab report states the number of epochs and that
"validation" means the official test split; it does not state the optimizer, the learning rate,
the batch size or the scaling of the inputs. Adam as Keras computes it, with Keras's defaults
(learning rate 1e-3, epsilon 1e-7), fits what the report shows; batch size 64 and pixels in [0, 1]
are our choice.

An experiment file calls `default_config` or the `get_config` of its baseline and changes the
fields that it is about.

The comment above or beside a field is also its line in docs/knobs.md, and that of a group stands
above its table: `python docs/update_knobs.py` writes that page.
"""

from __future__ import annotations

import flax.linen as nn
from ml_collections import ConfigDict as ConfigDict
from ml_collections.config_dict import placeholder

from flaxlab import models


def default_config(model: str | type[nn.Module] = "alexnet") -> ConfigDict:
    """Returns a config with every knob at its default.

    Args:
        model: "alexnet", "vgg" or "resnet"; or a network of your own, as its class or as a name
            that `flaxlab.models.find_model` takes. Its fields are the knobs `config.model`.

    Raises:
        UsageError: there is no such network, or flaxlab cannot train it.
    """
    model = model if isinstance(model, str) else models.name_of(model)
    config = ConfigDict()
    config.name = ""  # name of the experiment, which is that of its file, without ".py"
    config.baseline = ""  # name of the experiment to compare with; "": this one is its own
    # seed of the initial values, the order of the examples, dropout and the holdout split
    config.seed = 0

    config.data = ConfigDict()
    # where the examples come from: fashion_mnist, cifar10, digits; folder, parquet or npz, files of
    # your own; tfds:NAME or tfds:NAME/CONFIG, any image classification set that is prepared in the
    # TFDS folder; arrays, in memory
    config.data.name = "fashion_mnist"
    # (H, W, C) of the images that are trained on. Pictures are cropped and resized to it, except
    # those of fashion_mnist, cifar10 and arrays. None: the shape of the data, whose pictures must
    # all have one size; 28x28 for digits
    config.data.image_shape = placeholder(tuple)
    config.data.data_dir = placeholder(str)  # TFDS folder; None: $TFDS_DATA_DIR or TFDS's own
    # class folders of images, for data.name=folder; Parquet files, for data.name=parquet
    config.data.folder = placeholder(str)
    config.data.file = placeholder(str)  # what np.savez wrote, for data.name=npz
    # size of a fixed stratified subset of the training split; None: all of it
    config.data.train_examples = placeholder(int)
    config.data.test_examples = placeholder(int)  # the same of the test split
    # whether to score and predict by the mean of the logits of an image and of its mirror image
    config.data.test_flips = False
    # where the examples wait: "resident" on the device; "streamed" to it ahead of time, out of the
    # memory; "grain": in their files, read and decoded ahead of time. The batches are the same.
    # "auto": grain beyond a quarter of the process's memory, and for random_resized_crop; else
    # resident up to a quarter of an accelerator's memory, or 1 GiB on a CPU; else, and always with
    # several processes, streamed.
    config.data.placement = "auto"
    config.data.workers = 0  # grain: processes that read; 0: as many threads as there are cores
    # Random changes of the images in training, each new in every epoch. The report has none.
    config.data.augment = ConfigDict()
    # grain: train on a random part of each picture, of at least this share of its area and an
    # aspect between 3/4 and 4/3, brought to image_shape; 0.0: on the whole picture
    config.data.augment.random_resized_crop = 0.0
    config.data.augment.flip = False  # mirror half of the images, left to right
    # pixels of zeros around an image, of which a random part of image_shape is cut out
    config.data.augment.pad_and_crop = 0
    config.data.augment.cutout = 0  # side in pixels of a square of zeros at a random place
    # alpha of mixup (Zhang et al., 2018): images and labels are mixed in pairs; 0.0: off
    config.data.augment.mixup = 0.0
    # how pixels become numbers: "unit", [0, 1]; "symmetric", [-1, 1]; "raw", 0 to 255
    config.data.scaling = "unit"
    # "test": each epoch is scored on the test split (the report's protocol, optimistic for the
    # best epoch). "holdout": a seeded stratified part of train chooses the best epoch, and the
    # test split is scored once at the end.
    config.data.validation = "test"
    config.data.holdout_fraction = 0.1  # share of the training split that "holdout" takes

    # The network, whose other knobs are the fields of its class.
    config.model = ConfigDict(models.knobs(model))
    # alexnet, vgg, resnet, or a network of your own; the experiment chooses it, and no option can
    # change it
    config.model.name = model

    # What is minimized: the cross entropy and, as Keras's regularizers.L1 and L2 have them,
    # penalties on every kernel but the output layer's. The losses of the history are plain cross
    # entropies.
    config.loss = ConfigDict()
    config.loss.l1 = 0.0  # factor of sum(|w|)
    config.loss.l2 = 0.0  # factor of sum(w**2)
    # share of a label that is spread over all classes (Szegedy et al., 2016: 0.1)
    config.loss.label_smoothing = 0.0

    config.optimizer = ConfigDict()
    # adam, adamw, sgd, rmsprop, lion, muon; schedule_free_sgd, schedule_free_adamw (Defazio et
    # al., 2024), which score an average of the parameters, and need no schedule
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3  # after the warm-up, if there is one
    # adam, adamw, muon (where it leaves a parameter to Adam): share of the old mean of gradients
    # that a step keeps; lion: share of it in the update; schedule_free_*: share of the average
    # where gradients are taken
    config.optimizer.b1 = 0.9
    # adam, adamw, muon (as b1), schedule_free_adamw: share of the old mean of squares that a
    # step keeps; lion: of the old mean of gradients (0.99 in its paper)
    config.optimizer.b2 = 0.999
    # rmsprop: share of the old mean of squares that a step keeps; Keras's rho
    config.optimizer.rms_decay = 0.9
    # adam, adamw, schedule_free_adamw, rmsprop: added to the divisor of the update, which is then
    # never 0; Keras's default (optax's is 1e-8)
    config.optimizer.epsilon = 1e-7
    # adam, adamw: where epsilon is added. "keras": to sqrt(v), before the bias is corrected, as
    # Keras does; "paper": to the corrected one, as Optax and PyTorch do.
    config.optimizer.adam_form = "keras"
    # sgd, muon: share of the old velocity that a step keeps (muon: 0.95 in its author's code)
    config.optimizer.momentum = 0.9
    config.optimizer.nesterov = False  # sgd, muon: Nesterov's momentum
    # adamw, lion, muon, schedule_free_*: each step shrinks the parameters by this share times the
    # learning rate
    config.optimizer.weight_decay = 1e-4
    # largest norm of the gradients over all parameters, to which longer ones are scaled; 0.0: none
    config.optimizer.clip_norm = 0.0
    # radius of sharpness-aware minimization (Foret et al., 2021: 0.05), whose steps take two
    # gradients; 0.0: off
    config.optimizer.sam_radius = 0.0
    # constant; cosine (to 0 at the end); step; one_cycle (Smith and Topin, 2018: up from 1/25 of
    # the learning rate in 30% of the run, then down to almost 0; without another warm-up); plateau
    # (down by step_factor when the training loss of an epoch no longer falls)
    config.optimizer.schedule = "constant"
    # length of a linear warm-up, whose first step has a small rate already; 0.0: none
    config.optimizer.warmup_epochs = 0.0
    config.optimizer.step_epochs = 3.0  # step: epochs after which the rate is multiplied, each time
    config.optimizer.step_factor = 0.1  # step, plateau: what the rate is multiplied by
    # plateau: epochs without a lower loss before the rate is multiplied
    config.optimizer.plateau_patience = 2

    config.train = ConfigDict()
    config.train.epochs = 10  # passes over the training examples; the report's number
    config.train.batch_size = 64  # at most the number of training examples
    # how several devices share a batch: "sharded" (one program over all, the arrays are cut) or
    # "pmap" (one program a device, the older way, of one process). The numbers are the same.
    config.train.parallel = "sharded"
    config.train.devices = placeholder(int)  # number of devices; None: all of all processes
    # optimizer steps in one call of the program: the host is asked less often. No gain on a
    # CPU, where convolutions that lax computes become slow in its loop. None: 1, but on an
    # accelerator that holds the examples the largest divisor of an epoch's steps up to 100, or
    # half of that where the divisor is small.
    config.train.steps_per_execution = placeholder(int)
    # precision of float32 products and convolutions: "default", which on a recent GPU rounds their
    # factors to 10 bits (TensorFloat-32); "tensorfloat32"; "float32", in full. A CPU always
    # computes in full.
    config.train.matmul_precision = "default"
    # share of the average of the parameters that a step keeps, 0.999 for example: that average is
    # what is scored and stored, with batch statistics of its own; 0.0: no average
    config.train.ema_decay = 0.0
    # another run, from whose parameters and running statistics to start where path and shape fit
    config.train.init_from = placeholder(str)
    # whether jax.profiler writes a trace of ten calls, to profile/ in the run directory
    config.train.profile = False
    # whether flaxlab.kernels compute max pooling and, on a CPU, dense layers and convolutions in
    # float32: faster than XLA's own and equal to them but for rounding. False: plain lax.
    config.train.fast_kernels = True
    # a step whose loss or gradients hold NaN or infinity: "stop" ends the run and names the step,
    # "skip" goes on without it
    config.train.on_nonfinite = "stop"
    # on a GPU: only operations that give the same bits each time, which are slower. On a CPU all
    # of them do.
    config.train.deterministic = False
    # epochs without a better validation accuracy after which the run ends; 0: it never ends early
    config.train.early_stopping_patience = 0
    config.train.early_stopping_min_delta = 0.0  # how much higher an accuracy must be to be better

    config.checkpoint = ConfigDict()
    config.checkpoint.keep = 2  # latest checkpoints kept, beside the best one
    # save at the end of an epoch if this many seconds have passed since the last save, and always
    # at the end of the last one; 0: at the end of each
    config.checkpoint.epoch_seconds = 30.0
    # save within an epoch, too, if this many minutes have passed since the last save, so that a
    # killed process loses less; 0: never
    config.checkpoint.every_minutes = 10.0
    config.checkpoint.every_steps = 0  # save within an epoch, too, every so many steps; 0: never

    config.log = ConfigDict()
    config.log.progress = "auto"  # auto (a bar on a terminal, else lines), bar, lines, none
    config.log.tensorboard = True  # whether to write events for TensorBoard
    # histograms of the weights for TensorBoard every so many epochs, and some training images at
    # the beginning; 0: neither
    config.log.histograms = 0
    # a row of steps.csv every so many steps of an epoch, and at its end; 0: none. None: at most 50
    # rows an epoch. A call of several steps ends in one row at most.
    config.log.every_steps = placeholder(int)
    # "wandb", "mlflow": trackers that get the run as well; extras of the installation
    config.log.trackers = ()
    return config.lock()
