"""One image: from a file of any kind to 256x256 RGB and JPEG (paper section 2)."""
