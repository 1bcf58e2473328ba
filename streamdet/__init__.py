"""Tell synthetic speech from human speech while it is being spoken."""
