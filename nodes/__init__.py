"""The ComfyUI side of MCDM: thin wrappers over ``mcdm_core``. Only this package imports ComfyUI."""
