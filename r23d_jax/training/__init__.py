"""Training one network: the loop, its step, optimizer, losses, checkpoints and log."""
