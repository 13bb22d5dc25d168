"""From a photo to a fitted morphable model."""
