"""Other HTTP clients, answered in this process: requests, urllib3, ``http.client``, httpx, httpx2 and aiohttp.

``intercept`` says which requests are answered, and by what. A seam for each library hands them over: it is one
module, which the library's import loads. ``answers`` has what they share: a request becomes a backend's answer with
the status, the headers and the bytes that the server would send.
"""
