"""The live page: what streamdet hears, in a browser; everything it needs is served from here."""
