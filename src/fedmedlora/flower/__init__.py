"""The same rounds over Flower: the coordinator's ServerApp, the sites' ClientApp, and what they say."""
