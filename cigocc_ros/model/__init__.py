"""The CIGOcc network in PyTorch: an independent implementation of the published architecture."""
