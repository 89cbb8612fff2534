"""One module per endpoint family: parameters in, one engine call, a ``Response`` out."""
