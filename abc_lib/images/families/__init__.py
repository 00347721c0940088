"""One file a family of images: where it lies, how it is read, what it is called."""
