"""Startup kits: what a coordinator and its hospitals need to speak to each other, as folders to hand over."""
