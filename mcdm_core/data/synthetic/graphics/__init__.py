"""Pictures of synthetic people: rig, rasteriser, materials, shading."""
