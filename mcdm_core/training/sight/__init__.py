"""Training of the sight of the gallery (``models/layers/picture_sight.py``), the last stage of painted parts."""
