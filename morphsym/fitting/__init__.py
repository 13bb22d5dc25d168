"""From a photo to a face model: landmark detectors, the landmark solver, and the fits' folder."""

from . import detectors
from .detectors import Detection
from .fit import fit, fit_each
from .images import Photo, find_photos, load_photo
from .measures import measures
from .overlay import overlay
from .sheet import save_sheets
from .sources import load_source
from .store import FitsWriter, load_fits, save_fits

__all__ = [
    "Detection",
    "FitsWriter",
    "Photo",
    "detectors",
    "find_photos",
    "fit",
    "fit_each",
    "load_fits",
    "load_photo",
    "load_source",
    "measures",
    "overlay",
    "save_fits",
    "save_sheets",
]
