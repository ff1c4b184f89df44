"""An HTTP/1.1 client for the data plane: pooled, byte for byte, on plain asyncio protocols.

A library of its own: it imports nothing else of the package and knows nothing of services, models or the
fleet. `pool.Pool` is the raw door (head bytes in, exchange out); `adapter.PooledTransport` is the same pool
behind httpx's interface.
"""
