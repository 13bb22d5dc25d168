"""Bundled files: heads, classifiers, the sample photo's landmarks, presets. See manifest.json."""
