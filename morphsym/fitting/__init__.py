"""From a photo to a face model: landmark detectors, the landmark solver, and the fits' folder."""

from . import detectors
from .detectors import Detection
from .fit import fit, fit_each
from .images import Photo, load_photo
from .listing import find_photos
from .measures import measures
from .overlay import overlay
from .sheet import save_sheets
from .sources import load_source
from .store import each_fit, load_fits
from .writer import FitsWriter, request, save_fits

__all__ = [
    "Detection",
    "FitsWriter",
    "Photo",
    "detectors",
    "each_fit",
    "find_photos",
    "fit",
    "fit_each",
    "load_fits",
    "load_photo",
    "load_source",
    "measures",
    "overlay",
    "request",
    "save_fits",
    "save_sheets",
]
