"""Teachers of the 2D branches: what one says of an image, its file, its cache, its backends."""
