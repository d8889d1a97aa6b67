"""Every knob of an experiment, its rules, and the reading of files and flags."""

from flaxlab.config.default import ConfigDict as ConfigDict
from flaxlab.config.default import default_config as default_config
from flaxlab.config.fields import describe as describe
from flaxlab.config.fields import differences as differences
from flaxlab.config.fields import differences_but_seed as differences_but_seed
from flaxlab.config.fields import dtype_of as dtype_of
from flaxlab.config.fields import flatten as flatten
from flaxlab.config.fields import from_dict as from_dict
from flaxlab.config.fields import lists_to_tuples as lists_to_tuples
from flaxlab.config.fields import meaningful_differences as meaningful_differences
from flaxlab.config.fields import replaced as replaced
from flaxlab.config.fields import to_dict as to_dict
from flaxlab.config.fields import to_json as to_json
from flaxlab.config.lab_report import LabReport as LabReport
