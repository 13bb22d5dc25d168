"""From a photo to a face model: landmark detectors, the landmark solver, and the fits' folder."""

from . import detectors
from .detectors import Detection
from .fit import fit
from .images import Photo, find_photos, load_photo
from .measures import measures
from .overlay import overlay
from .sheet import save_sheets
from .store import load_fits, save_fits

__all__ = [
    "Detection",
    "Photo",
    "detectors",
    "find_photos",
    "fit",
    "load_fits",
    "load_photo",
    "measures",
    "overlay",
    "save_fits",
    "save_sheets",
]
