"""What endpoints share: the call, credentials, options, multipart bodies."""
