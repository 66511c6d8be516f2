"""The TFDS builder of UCF101 and data sets laid out like it. Importing this package imports nothing else."""
