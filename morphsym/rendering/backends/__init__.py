"""One rasteriser a file; all fill the same Fragments."""
