"""Ways in which people keep labelled videos: one file for each, which finds the videos and what is said of them."""
