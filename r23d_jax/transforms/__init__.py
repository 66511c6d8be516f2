"""Transforms on the device, inside the compiled step: from decoded uint8 clips to the network's input."""
