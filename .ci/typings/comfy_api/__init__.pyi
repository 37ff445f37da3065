from . import feature_flags as feature_flags
