"""Files on storage elsewhere: one is fetched, upscaled as one on a disk, and its result is put."""
