"""Code that endpoints share: the call, credentials, parameters, multipart bodies."""
