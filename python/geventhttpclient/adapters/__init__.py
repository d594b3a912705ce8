"""Adapters that use the engine in requests, httpx and urllib3: one module for each."""
