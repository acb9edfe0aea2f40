"""Images and folders: which file goes where, and how it gets there."""
