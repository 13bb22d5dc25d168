"""3D morphable models: the record, the hemiface split, loaders and the registry."""
