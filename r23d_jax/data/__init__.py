"""On the host: built data sets, which frames make a clip, batches decoded ahead, video files and optical flow."""
