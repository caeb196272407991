"""The call path around any inference endpoint: filters, flow control, a measured record of every call."""
