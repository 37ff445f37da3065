"""All that knows ComfyUI from the inside: model management, interruption, media, events, files."""
