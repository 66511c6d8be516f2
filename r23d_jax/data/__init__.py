"""Data on the host: built data sets, sampling of clips, prefetched batches, video files and optical flow."""
