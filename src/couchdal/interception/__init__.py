"""Other HTTP clients, answered in this process: requests, urllib3, ``http.client``, httpx, httpx2 and aiohttp.

``intercept`` decides which requests are answered, and by which backend. Each library has a seam, which passes its
requests on. A seam is one module here, and importing the library loads it. The seams share ``answers``, which turns a
request into a backend's answer with the status, the headers and the bytes that the server would send.
"""
