"""What the commands print; the command line itself is in `streamdet.cli`."""
