"""Makes a TFDS data set from original files."""
