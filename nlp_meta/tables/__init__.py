"""Files of rows, whatever wrote them: their encoding, separator, container and shape."""
