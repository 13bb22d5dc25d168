"""One loader a file format. Each returns a checked :class:`morphsym.faces.MorphableModel`."""
