"""Pictures, sounds and videos between ComfyUI and the core; temporary files."""
