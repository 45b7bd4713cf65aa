"""The stand-in generator: Debian packages in, EL7-shaped signed RPM repository out.

    mirror → apt → unpack → shape → bytecode → manifest → spec → rpmbuild → signing → repo → publish

One job per module; `cli` strings them together, `names` and `users` are data.
"""

# Raised when the meaning of a finished output changes in a way that the fingerprint cannot see.
FORMAT = 1
