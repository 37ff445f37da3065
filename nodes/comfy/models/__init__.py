"""Models under ComfyUI's management: loading, devices, memory, packages they need."""
