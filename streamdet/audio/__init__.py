"""Sound inside the process: blocks, ring buffer, resampling, voice activity."""
