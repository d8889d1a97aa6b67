"""Every knob of an experiment once: its default and what it means.

The protocol is defined here and nowhere else. The lab report states the number of epochs and that
"validation" means the official test split; it does not state the optimizer, the learning rate,
the batch size or the scaling of the inputs. Adam as Keras computes it, with Keras's defaults
(learning rate 1e-3, epsilon 1e-7), fits what the report shows; batch size 64 and pixels in [0, 1]
are our choice.

An experiment file calls `default_config` or the `get_config` of its baseline and changes the
fields that it is about.
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
    config.name = ""  # set when an experiment file is read: the file's name without ".py"
    config.baseline = ""  # name of the experiment to compare with; "": this one is its own
    config.seed = 0  # of initial values, order of examples, dropout and the holdout split

    config.data = ConfigDict()
    # fashion_mnist, cifar10, digits, folder, parquet, npz, or tfds:NAME or tfds:NAME/CONFIG: any
    # image classification set that is prepared in the TFDS folder; arrays: arrays in memory.
    config.data.name = "fashion_mnist"
    # (H, W, C): all but the first two and arrays are brought to it.
    config.data.image_shape = (28, 28, 1)
    config.data.data_dir = placeholder(str)  # TFDS folder; None: $TFDS_DATA_DIR or TFDS's own
    # Class folders of images, for data.name=folder; Parquet files, for data.name=parquet.
    config.data.folder = placeholder(str)
    config.data.file = placeholder(str)  # what np.savez wrote, for data.name=npz
    config.data.train_examples = placeholder(int)  # a fixed stratified subset; None: all
    config.data.test_examples = placeholder(int)  # a fixed stratified subset; None: all
    # Score and predict by the mean of the logits of an image and of its mirror image.
    config.data.test_flips = False
    # Where the examples wait: "resident" on the device; "streamed" to it ahead of time, out of the
    # memory; "grain": in their files, read and decoded ahead of time. The batches are the same.
    # "auto": grain beyond a quarter of the process's memory, and for random_resized_crop; else
    # resident up to a quarter of an accelerator's memory, or 1 GiB on a CPU; else, and always with
    # several processes, streamed.
    config.data.placement = "auto"
    config.data.workers = 0  # grain: processes that read; 0: as many threads as there are cores
    # Random changes of the images in training, each new in every epoch. The report has none.
    config.data.augment = ConfigDict()
    # grain: train on a random part of each picture, of at least this share of its area and an
    # aspect between 3/4 and 4/3, brought to image_shape; 0.0: on the whole picture.
    config.data.augment.random_resized_crop = 0.0
    config.data.augment.flip = False  # half of the images, left to right
    config.data.augment.pad_and_crop = 0  # pixels of zeros around; a part of image_shape is cut out
    config.data.augment.cutout = 0  # side in pixels of a square of zeros
    # Alpha of mixup (Zhang et al., 2018): images and labels are mixed in pairs; 0.0: off.
    config.data.augment.mixup = 0.0
    config.data.scaling = "unit"  # pixels to [0, 1]; "symmetric": [-1, 1]; "raw": 0 to 255
    # "test": each epoch is scored on the test split (the report's protocol, optimistic for the
    # best epoch). "holdout": a seeded stratified part of train chooses the best epoch, and the
    # test split is scored once at the end.
    config.data.validation = "test"
    config.data.holdout_fraction = 0.1

    # The network's own fields, which its class documents.
    config.model = ConfigDict({"name": model, **models.knobs(model)})

    # Penalties on every kernel but the output layer's, as Keras's regularizers.L1 and L2 have
    # them: l1 * sum(|w|) + l2 * sum(w**2), added to the cross entropy.
    config.loss = ConfigDict()
    config.loss.l1 = 0.0
    config.loss.l2 = 0.0
    # Share of a label that is spread over all classes (Szegedy et al., 2016: 0.1). The losses of
    # the history are plain cross entropies.
    config.loss.label_smoothing = 0.0

    config.optimizer = ConfigDict()
    # adam, adamw, sgd, rmsprop, lion, muon; schedule_free_sgd, schedule_free_adamw (Defazio et
    # al., 2024), which score an average of the parameters, and need no schedule.
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3
    # adam, adamw, lion; schedule_free_*: share of the average where gradients are taken
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.999  # adam, adamw, schedule_free_adamw, lion (0.99 in its paper)
    config.optimizer.rms_decay = 0.9  # rmsprop; Keras's rho
    # adam, adamw, schedule_free_adamw, rmsprop; Keras's default (optax's is 1e-8)
    config.optimizer.epsilon = 1e-7
    # adam, adamw: where epsilon is added. "keras": to sqrt(v), before the bias is corrected, as
    # Keras does; "paper": to the corrected one, as Optax and PyTorch do.
    config.optimizer.adam_form = "keras"
    config.optimizer.momentum = 0.9  # sgd, muon (0.95 in its author's code)
    config.optimizer.nesterov = False  # sgd, muon
    config.optimizer.weight_decay = 1e-4  # adamw, lion, muon, schedule_free_*
    # Gradients whose norm over all parameters is larger are scaled down to it; 0.0: never.
    config.optimizer.clip_norm = 0.0
    # Radius of sharpness-aware minimization (Foret et al., 2021: 0.05), whose steps take two
    # gradients; 0.0: off.
    config.optimizer.sam_radius = 0.0
    # constant; cosine (to 0 at the end); step; one_cycle (Smith and Topin, 2018: up from 1/25 of
    # the learning rate in 30% of the run, then down to almost 0; without another warm-up); plateau
    # (down by step_factor when the training loss of an epoch no longer falls).
    config.optimizer.schedule = "constant"
    config.optimizer.warmup_epochs = 0.0  # linear; the first step has a small rate already
    config.optimizer.step_epochs = 3.0  # step: every so many epochs after the warm-up ...
    config.optimizer.step_factor = 0.1  # ... the learning rate is multiplied by this
    config.optimizer.plateau_patience = 2  # plateau: epochs without a lower loss before it is, too

    config.train = ConfigDict()
    config.train.epochs = 10  # of the report
    config.train.batch_size = 64  # at most the number of training examples
    # How several devices share a batch: "sharded" (one program over all, the arrays are cut) or
    # "pmap" (one program a device, the older way, of one process). The numbers are the same.
    config.train.parallel = "sharded"
    config.train.devices = placeholder(int)  # number of devices; None: all of all processes
    # Optimizer steps in one call of the program: the host is asked less often. No gain on a
    # CPU, where convolutions that lax computes become slow in its loop. None: 1, but on an
    # accelerator that holds the examples the largest divisor of an epoch's steps up to 100.
    config.train.steps_per_execution = placeholder(int)
    # Precision of float32 products and convolutions: "default", which on a recent GPU rounds their
    # factors to 10 bits (TensorFloat-32); "tensorfloat32"; "float32", in full. A CPU always
    # computes in full.
    config.train.matmul_precision = "default"
    # Share of the average of the parameters that a step keeps, 0.999 for example: that average is
    # what is scored and stored, with batch statistics of its own; 0.0: no average.
    config.train.ema_decay = 0.0
    # Start from the parameters and running statistics of another run, where path and shape fit.
    config.train.init_from = placeholder(str)
    # A trace of ten calls by jax.profiler, to profile/ in the run directory.
    config.train.profile = False
    # Max pooling and, on a CPU in float32, convolutions by flaxlab.kernels, which are faster than
    # XLA's own and equal to them but for rounding. False: plain lax.
    config.train.fast_kernels = True
    # A step whose loss or gradients hold NaN or infinity: "stop" ends the run and names the step,
    # "skip" goes on without it.
    config.train.on_nonfinite = "stop"
    # On a GPU: only operations that give the same bits each time, which are slower. On a CPU all
    # of them do.
    config.train.deterministic = False
    config.train.early_stopping_patience = 0  # epochs without a better one; 0: never stop early
    config.train.early_stopping_min_delta = 0.0  # what counts as better, in accuracy

    config.checkpoint = ConfigDict()
    config.checkpoint.keep = 2  # latest checkpoints kept, beside the best one
    # Save at the end of an epoch if this many seconds have passed since the last save, and always
    # at the end of the last one; 0: at the end of each.
    config.checkpoint.epoch_seconds = 30.0
    # Also save within an epoch, so that a killed process loses less; 0 turns this off.
    config.checkpoint.every_minutes = 10.0
    config.checkpoint.every_steps = 0

    config.log = ConfigDict()
    config.log.progress = "auto"  # auto (a bar on a terminal, else lines), bar, lines, none
    config.log.tensorboard = True
    # A row of steps.csv every so many steps of an epoch, and at its end; 0: none. None: at most 50
    # rows an epoch. A call of several steps ends in one row at most.
    config.log.every_steps = placeholder(int)
    # "wandb", "mlflow": trackers that get the run as well; extras of the installation.
    config.log.trackers = ()
    return config.lock()
