"""``streamdet bench``: what this machine can do, side by side with the ways it could be done otherwise."""
