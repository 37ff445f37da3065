"""The command line, ``python -m mcdm_core COMMAND``; one file a command."""
