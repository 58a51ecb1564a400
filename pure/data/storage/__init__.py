"""Where data lie and how they get there: the root, downloads, trees of image files, HDF5, atomic writes."""
