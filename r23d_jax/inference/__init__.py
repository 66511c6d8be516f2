"""Inference on video files and arrays: clips of a video, the classifier, class activation maps."""
