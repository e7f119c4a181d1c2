"""Where frames come from: files, network cameras and devices."""
