"""Cameras, rasterisers, shading and compositing."""
