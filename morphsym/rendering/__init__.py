"""Cameras, rasterisers, shading and compositing."""

from .cameras import portrait_camera, project
from .lights import default_lights, sample_lights
from .render import rasterize, render

__all__ = ["default_lights", "portrait_camera", "project", "rasterize", "render", "sample_lights"]
